"""The way of every generation, whatever the dialect: limits, guardrails, engine, guardrails, accounts."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Literal

import msgspec

from inferflux_api.answers import answer_parser, parsed_delta
from inferflux_api.engines import EnginePool, ServedModel, Target
from inferflux_api.generation import Delta, Echo, GenerationRequest, Usage
from inferflux_api.governance.answers import AnswerGuard
from inferflux_api.governance.audit import AuditLog
from inferflux_api.governance.authentication import Authenticator, require
from inferflux_api.governance.guardrails import GuardrailPipeline
from inferflux_api.governance.limits import Limiter, Reservation, generation_estimate
from inferflux_api.governance.prompts import checked_prompt
from inferflux_api.merging import merge
from inferflux_api.observability.metrics import Metrics
from inferflux_api.scoring import Score
from inferflux_core.auth import Principal
from inferflux_core.engine.protocol import (
    ChatPrompt,
    Generate,
    Prompt,
    RequestOutput,
    TextPrompt,
    Tokenize,
    Tokens,
)
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import InferFluxError, InvalidRequestError, error_from
from inferflux_core.guardrails import Direction, GuardrailContext
from inferflux_core.tool_calls.parser import AnswerParser

__all__ = ["Generation", "Pipeline"]


class Pipeline:
    """Composes what a server has into one way through.

    Attributes:
        guardrails: may be replaced at any time; a request keeps those that it began with.
    """

    def __init__(
        self,
        engines: EnginePool,
        authenticator: Authenticator,
        guardrails: GuardrailPipeline,
        limiter: Limiter,
        audit: AuditLog,
        metrics: Metrics,
        *,
        share_prefixes: bool = False,
    ) -> None:
        self.engines = engines
        self.authenticator = authenticator
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
        principal, target = self.enter(principal, request.model)
        model = target.model
        request = replace(request, adapters=target.adapters + request.adapters)
        request.params.validate()
        info = model.engine.loaded_info
        estimate = generation_estimate(request, info.max_model_len if info else None)
        reservation = await self.limiter.reserve(principal, model.name, estimate)
        request_id = secrets.token_hex(12)
        try:
            self.audit.received(request_id, principal, model.name)
        except BaseException:
            reservation.settle()
            raise
        generation = Generation(self, principal, request, model, request_id, reservation)
        try:
            await generation.start()
        except BaseException:
            await generation.close()
            raise
        return generation

    def enter(self, principal: Principal, model: str | None) -> tuple[Principal, Target]:
        """Who asks, as of now, and the model it asks for.

        Raises:
            AuthenticationError: it is nobody any more.
            PermissionDeniedError: it may not generate any more, or its tenant may nothing.
            ModelNotFoundError: there is no such model, or none that it may use.
        """
        principal = self.authenticator.renew(principal)
        require(principal, "generate")
        return principal, self.engines.resolve(model, principal)

    def cache_salt(self, principal: Principal) -> str:
        """Tenants share no prefixes unless told so: how soon an answer comes tells what is cached."""
        return "" if self._share_prefixes else principal.tenant

    def context(
        self, principal: Principal, model: ServedModel, request_id: str, direction: Direction
    ) -> GuardrailContext:
        """What guardrails get to know."""
        return GuardrailContext(request_id, principal.tenant, model.name, direction)


class Generation:
    """One admitted request: all its choices, as they come. It holds a lease on its model until closed.

    Attributes:
        request: what was asked for.
        echoes: the prompts as they are shown, if they are.
        model: what runs.
        model_name: what the client asked for, which may be an adapter.
        headers: for the response.
        usage: tokens so far.
        created: seconds since 1970.
        load_seconds: until the model was loaded.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        principal: Principal,
        request: GenerationRequest,
        model: ServedModel,
        request_id: str,
        reservation: Reservation,
    ) -> None:
        self._pipeline = pipeline
        self._guardrails = pipeline.guardrails
        self._reservation = reservation
        self._principal = principal
        self.request = request
        self.id = request_id
        self._started = time.monotonic()
        self._first_token: float | None = None
        self._last_token: dict[int, float] = {}
        self._inter_token = pipeline.metrics.inter_token.labels(model.name, model.backend)
        self._outcome = "abort"
        self._leased = False
        self._closed = False
        self._deltas: AsyncGenerator[Delta, None] | None = None
        self._head: list[Delta] = []
        self._prompts: list[Prompt] = []
        self.model = model
        self.model_name = request.model or model.name
        self.headers = reservation.headers
        self.usage = Usage()
        self.echoes: list[Echo] = []
        self.created = int(time.time())
        self.load_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Since the request was admitted."""
        return time.monotonic() - self._started

    @property
    def first_token_seconds(self) -> float:
        """From the request's admission to its first token, or until now if there is none."""
        return self.seconds if self._first_token is None else self._first_token - self._started

    async def start(self) -> None:
        """Check the prompts, hand them to the engine, and wait for the first delta."""
        self._note_prompts("full", self.request.prompts)
        self._prompts = prompts = await self._checked_prompts()
        self._note_prompts("redacted", prompts)
        await self._pipeline.engines.acquire(self.model)
        self._leased = True
        self.load_seconds = self.seconds
        self._check_count(len(prompts))
        await self.model.adapters.ensure(self.request.adapters)
        streams = []
        candidates = self.request.candidates
        for index, prompt in enumerate(prompts):
            if self.request.echo:
                self.echoes.append(await self._echo(prompt))
            for choice in range(candidates):
                params = _for_choice(self.request, choice)
                streams.append(self._choice(index * candidates + choice, prompt, params))
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
        try:
            if self._deltas is not None:
                await self._deltas.aclose()
        finally:
            if self._leased:
                self._pipeline.engines.release(self.model)
            self._reservation.used = self.usage.prompt_tokens + self.usage.completion_tokens
            self._reservation.settle()
            self._account()

    def _note_prompts(self, kind: Literal["redacted", "full"], prompts: list[Prompt]) -> None:
        if kind == "redacted" and not self._guardrails.active:
            return
        audit = self._pipeline.audit
        audit.prompted(kind, self.id, self._principal, self.model.name, prompts)

    async def _checked_prompts(self) -> list[Prompt]:
        if not self._guardrails.active:
            return self.request.prompts
        context = self._pipeline.context(self._principal, self.model, self.id, Direction.PROMPT)
        check = self._guardrails.check_prompt(context, self.headers)
        given = self.request.prompts
        size = sum(len(msgspec.msgpack.encode(prompt)) for prompt in given)
        prompts = await check.run(lambda: [checked_prompt(each, check) for each in given], size)
        await check.review()
        return prompts

    def _check_count(self, num_prompts: int) -> None:
        """Refuse at once what would be refused, as too much just now, at any time."""
        wanted, most = num_prompts * self.request.candidates, self.model.engine.most_requests
        if wanted > most:
            raise InvalidRequestError(
                f"{num_prompts} prompts with {self.request.candidates} answers each are more than the "
                f"{most} that this model can be asked for at a time; send less in a request",
                param="n" if num_prompts == 1 else "prompt",
            )

    async def token_ids(self, answer: str) -> list[int]:
        """The tokens of the first prompt and of an answer to it, for those who go on from there.

        Only before the generation is closed.
        """
        after = TextPrompt(text=answer, add_special=False)
        return [
            token_id
            for prompt in (self._prompts[0], after)
            for token_id in (await self._tokenize(prompt)).token_ids
        ]

    async def _tokenize(self, prompt: Prompt) -> Tokens:
        engine = self.model.engine
        tokens = await engine.call(Tokenize(call_id=engine.next_id(), prompt=prompt))
        assert isinstance(tokens, Tokens)
        return tokens

    async def _echo(self, prompt: Prompt) -> Echo:
        tokens = await self._tokenize(prompt)
        text = b"".join(tokens.pieces).decode("utf-8", "replace")
        if isinstance(prompt, TextPrompt):
            text = prompt.text
        return Echo(text, tokens.pieces[0] if tokens.pieces else b"")

    async def _choice(
        self, index: int, prompt: Prompt, params: SamplingParams
    ) -> AsyncGenerator[Delta, None]:
        """The deltas of one choice, as its reader may see them."""
        guard = self._open_guard()
        parser: AnswerParser | None = None
        score = Score()
        salt = self._pipeline.cache_salt(self._principal)
        engine = self.model.engine
        outputs = engine.generate(
            Generate(
                request_id=engine.next_id(),
                prompt=prompt,
                params=params,
                cache_salt=salt,
                tenant=self._principal.tenant,
                priority=self.request.priority,
                adapters=self.request.adapters,
            )
        )
        async with aclosing(outputs):
            async for output in outputs:
                self._count(index, output)
                if output.error is not None:
                    raise _engine_error(output)
                if output.num_prompt_tokens is not None and isinstance(prompt, ChatPrompt):
                    parser = answer_parser(self.request.tools, engine.info, output)
                score.add(output)
                delta = self._delta(index, output, score)
                if parser is not None:
                    delta = parsed_delta(delta, parser)
                    if delta.reasoning and not (delta.text or delta.tool_calls):
                        self.usage.reasoning_tokens += output.num_tokens
                if guard is not None:
                    delta = await guard.check(delta, parser.num_calls if parser else 0)
                # A delta without anything to show is only worth sending when it ends the choice.
                if delta.shows_something:
                    yield delta
                if delta.finish_reason is not None:
                    self._outcome = delta.finish_reason
                    return

    def _open_guard(self) -> AnswerGuard | None:
        if not self._guardrails.active:
            return None
        params = self.request.params
        if params.logprobs is not None or params.prompt_logprobs is not None:
            # Alternatives would show what the guardrails hold back.
            raise InvalidRequestError(
                "log-probabilities are refused while guardrails are active", param="logprobs"
            )
        context = self._pipeline.context(self._principal, self.model, self.id, Direction.OUTPUT)
        return AnswerGuard(self._guardrails.inspect(context, self.headers))

    def _delta(self, index: int, output: RequestOutput, score: Score) -> Delta:
        return Delta(
            index,
            output.text,
            output.finish_reason,
            # With `best_of` there are reports that nobody asked to see.
            [] if self.request.params.logprobs is None else output.reports,
            output.prompt_reports,
            score.mean,
            stop_sequence=output.stop_sequence,
        )

    def _count(self, index: int, output: RequestOutput) -> None:
        # Choices of one prompt share it; it is paid for once.
        first = index % self.request.candidates == 0
        if first and output.num_prompt_tokens is not None:
            self.usage.prompt_tokens += output.num_prompt_tokens
        if first and output.num_cached_tokens is not None:
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


def _for_choice(request: GenerationRequest, choice: int) -> SamplingParams:
    """The parameters of one choice: with a seed of its own, or all choices would be alike."""
    params = request.params
    if params.seed is not None and choice:
        params = msgspec.structs.replace(params, seed=params.seed + choice)
    if request.best_of is not None and params.logprobs is None:
        params = msgspec.structs.replace(params, logprobs=0)
    return params


def _engine_error(output: RequestOutput) -> InferFluxError:
    assert output.error is not None
    code, message = output.error
    return error_from(code, message, output.param)
