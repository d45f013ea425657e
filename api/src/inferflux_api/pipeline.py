"""The way of every generation, whatever the dialect: limits, guardrails, engine, guardrails, accounts."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inferflux_api.engines import EnginePool, ServedModel
from inferflux_api.governance.audit import AuditLog
from inferflux_api.governance.guardrails import FilterChain, GuardrailPipeline
from inferflux_api.governance.rate_limit import RateLimiter
from inferflux_api.merging import merge
from inferflux_api.observability.metrics import Metrics
from inferflux_core.auth import Principal
from inferflux_core.engine.protocol import (
    AdapterUse,
    ChatPrompt,
    Generate,
    Prompt,
    RequestOutput,
    TextPrompt,
    TokenPrompt,
    TokenReport,
)
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import InferFluxError, InvalidRequestError, error_from
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext

__all__ = ["Delta", "Generation", "GenerationRequest", "Pipeline", "Usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What a dialect asks for.

    Attributes:
        model: name, or None for the only one.
        prompts: one or more; the dialect counts choices over all of them.
        params: for every prompt.
        n: choices per prompt.
        priority: lower goes first.
        adapters: applied together.
    """

    model: str | None
    prompts: list[Prompt]
    params: SamplingParams
    n: int = 1
    priority: int = 0
    adapters: list[AdapterUse] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new about a choice. The last delta of a choice has a finish reason."""

    index: int
    text: str
    finish_reason: str | None = None
    reports: list[TokenReport] = field(default_factory=list)


@dataclass(slots=True)
class Usage:
    """Tokens so far."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Pipeline:
    """Composes what a server has into one way through."""

    def __init__(
        self,
        engines: EnginePool,
        guardrails: GuardrailPipeline,
        limiter: RateLimiter,
        audit: AuditLog,
        metrics: Metrics,
        *,
        share_prefixes: bool = False,
    ) -> None:
        self.engines = engines
        self.guardrails = guardrails
        self.limiter = limiter
        self.audit = audit
        self.metrics = metrics
        self._share_prefixes = share_prefixes

    async def open(self, principal: Principal, request: GenerationRequest) -> Generation:
        """Admit a request and start it.

        Returns:
            A generation whose first delta is there already, so that nothing that can go wrong before
            it goes wrong after a status line was sent.

        Raises:
            InferFluxError: it was refused, or failed.
        """
        headers = await self.limiter.check(principal)
        model = self.engines.get(request.model)
        request.params.validate()
        request_id = secrets.token_hex(12)
        self.audit.received(request_id, principal, model.name)
        generation = Generation(self, principal, request, model, request_id, headers)
        try:
            await generation.start()
        except BaseException:
            await generation.close()
            raise
        return generation

    def cache_salt(self, principal: Principal) -> str:
        """Tenants share no prefixes unless told so: how soon an answer comes tells what is cached."""
        return "" if self._share_prefixes else principal.tenant

    def context(
        self, principal: Principal, model: ServedModel, request_id: str, direction: Direction
    ) -> GuardrailContext:
        """What guardrails get to know."""
        return GuardrailContext(request_id, principal.tenant, model.name, direction)


class Generation:
    """One admitted request: all its choices, as they come."""

    def __init__(
        self,
        pipeline: Pipeline,
        principal: Principal,
        request: GenerationRequest,
        model: ServedModel,
        request_id: str,
        headers: dict[str, str],
    ) -> None:
        self._pipeline = pipeline
        self._principal = principal
        self._request = request
        self.id = request_id
        self._started = time.monotonic()
        self._first_token: float | None = None
        self._last_token: dict[int, float] = {}
        self._inter_token = pipeline.metrics.inter_token.labels(model.name, model.backend)
        self._outcome = "abort"
        self._closed = False
        self._deltas: AsyncGenerator[Delta, None] | None = None
        self._head: list[Delta] = []
        self.model = model
        self.headers = headers
        self.usage = Usage()
        self.created = int(time.time())

    async def start(self) -> None:
        """Check the prompts, hand them to the engine, and wait for the first delta."""
        streams = []
        for index, prompt in enumerate(self._checked_prompts()):
            for choice in range(self._request.n):
                params = _for_choice(self._request.params, choice)
                streams.append(self._choice(index * self._request.n + choice, prompt, params))
        self._deltas = merge(streams)
        self._head.append(await anext(self._deltas))

    async def deltas(self) -> AsyncIterator[Delta]:
        """Everything that comes, once. Close the generation afterwards, whatever happens."""
        assert self._deltas is not None
        while self._head:
            yield self._head.pop()
        async for delta in self._deltas:
            yield delta

    async def close(self) -> None:
        """Abort what still runs, and settle the accounts. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._deltas is not None:
            await self._deltas.aclose()
        self._account()

    def _checked_prompts(self) -> list[Prompt]:
        if not self._pipeline.guardrails.active:
            return self._request.prompts
        return [self._check(prompt) for prompt in self._request.prompts]

    def _check(self, prompt: Prompt) -> Prompt:
        """Pass every text of a prompt through the guardrails, whoever is said to have written it."""
        context = self._pipeline.context(self._principal, self.model, self.id, Direction.PROMPT)

        def check(text: str) -> str:
            return self._pipeline.guardrails.check_prompt(context, text)

        if isinstance(prompt, TextPrompt):
            return TextPrompt(text=check(prompt.text))
        if isinstance(prompt, TokenPrompt):
            raise InvalidRequestError(
                "prompts of token ids are refused while guardrails are active; send text",
                param="prompt",
            )
        return ChatPrompt(
            messages=[_map_strings(message, check) for message in prompt.messages],
            tools=prompt.tools and [_map_strings(tool, check) for tool in prompt.tools],
            options=_map_strings(prompt.options, check),
        )

    async def _choice(
        self, index: int, prompt: Prompt, params: SamplingParams
    ) -> AsyncGenerator[Delta, None]:
        """The deltas of one choice, as its reader may see them."""
        chain = self._open_chain()
        salt = self._pipeline.cache_salt(self._principal)
        engine = self.model.engine
        outputs = engine.generate(
            Generate(
                request_id=engine.next_id(),
                prompt=prompt,
                params=params,
                cache_salt=salt,
                tenant=self._principal.tenant,
                priority=self._request.priority,
                adapters=self._request.adapters,
            )
        )
        async with aclosing(outputs):
            async for output in outputs:
                self._count(index, output)
                if output.error is not None:
                    raise _engine_error(output)
                delta = self._filtered(index, output, chain)
                # A delta without anything to show is only worth sending when it ends the choice.
                if delta.text or delta.reports or delta.finish_reason:
                    yield delta
                if delta.finish_reason is not None:
                    self._outcome = delta.finish_reason
                    return

    def _open_chain(self) -> FilterChain | None:
        if not self._pipeline.guardrails.active:
            return None
        if self._request.params.logprobs is not None:
            # Alternatives would show what the guardrails hold back.
            raise InvalidRequestError(
                "log-probabilities are refused while guardrails are active", param="logprobs"
            )
        return self._pipeline.guardrails.open(
            self._pipeline.context(self._principal, self.model, self.id, Direction.OUTPUT)
        )

    def _filtered(self, index: int, output: RequestOutput, chain: FilterChain | None) -> Delta:
        if chain is None:
            return Delta(index, output.text, output.finish_reason, output.reports)
        try:
            text = chain.feed(output.text)
            if output.finish_reason is not None:
                text += chain.finish()
        except Blocked:
            return Delta(index, "", "content_filter")
        return Delta(index, text, output.finish_reason)

    def _count(self, index: int, output: RequestOutput) -> None:
        # Choices of one prompt share it; it is paid for once.
        if output.num_prompt_tokens is not None and index % self._request.n == 0:
            self.usage.prompt_tokens += output.num_prompt_tokens
        if output.num_cached_tokens is not None and index % self._request.n == 0:
            self.usage.cached_tokens += output.num_cached_tokens
        if not output.num_tokens:
            return
        now = time.monotonic()
        last = self._last_token.get(index)
        if last is not None:
            # Outputs that were merged for a slow reader have come evenly, as far as we know.
            self._inter_token.observe((now - last) / output.num_tokens)
        elif not self._last_token:
            self._first_token = now
        self._last_token[index] = now
        self.usage.completion_tokens += output.num_tokens

    def _account(self) -> None:
        metrics, usage = self._pipeline.metrics, self.usage
        labels = (self.model.name, self.model.backend)
        now = time.monotonic()
        metrics.requests.labels(*labels, self._outcome).inc()
        metrics.prompt_tokens.labels(*labels).inc(usage.prompt_tokens)
        metrics.output_tokens.labels(*labels).inc(usage.completion_tokens)
        metrics.duration.labels(*labels).observe(now - self._started)
        if self._first_token is not None:
            metrics.first_token.labels(*labels).observe(self._first_token - self._started)
        self._pipeline.audit.completed(
            self.id,
            self._principal,
            self.model.name,
            outcome=self._outcome,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )


def _for_choice(params: SamplingParams, choice: int) -> SamplingParams:
    """The same parameters with a seed of its own, or all choices of a seeded request would be alike."""
    if params.seed is None or choice == 0:
        return params
    return msgspec.structs.replace(params, seed=params.seed + choice)


def _engine_error(output: RequestOutput) -> InferFluxError:
    assert output.error is not None
    code, message = output.error
    return error_from(code, message, output.param)


def _map_strings(value: Any, function: Any) -> Any:
    """Apply a function to every string value in a JSON-like structure; names of fields are not text."""
    if isinstance(value, str):
        return function(value)
    if isinstance(value, list):
        return [_map_strings(item, function) for item in value]
    if isinstance(value, dict):
        return {key: _map_strings(item, function) for key, item in value.items()}
    return value
