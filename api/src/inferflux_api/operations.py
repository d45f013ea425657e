"""The way of everything that is not a generation: limits, guardrails, engine, accounts."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

import msgspec

from inferflux_api.engines import Target
from inferflux_api.governance.guardrails import PromptCheck
from inferflux_api.governance.limits import call_estimate
from inferflux_api.governance.limits.estimate import Estimate
from inferflux_api.governance.prompts import Check, checked_prompt
from inferflux_api.pipeline import Pipeline
from inferflux_core.auth import Principal
from inferflux_core.engine.protocol import (
    Answer,
    Call,
    ChatPrompt,
    Detokenize,
    Embed,
    Embeddings,
    Prompt,
    Rank,
    Render,
    Scores,
    Text,
    Tokenize,
    Tokens,
)
from inferflux_core.errors import InferFluxError, InvalidRequestError
from inferflux_core.guardrails import Direction, GuardrailContext

__all__ = ["Operations", "Result", "Verdict"]

_GUARDRAILS: Final = "guardrails"

T = TypeVar("T", bound=Answer)


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """What an operation brought.

    Attributes:
        id: of the request.
        model: its name, as the client gave it.
        max_model_len: tokens a sequence of this model can hold.
        answer: from the engine.
        headers: for the response.
    """

    id: str
    model: str
    max_model_len: int
    answer: T
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What guardrails say.

    Attributes:
        id: of the request.
        objections: for each text, by name of the guardrail.
        headers: for the response.
    """

    id: str
    objections: list[dict[str, bool]]
    headers: dict[str, str]


@dataclass(slots=True)
class _Account:
    """What is settled when an operation ends. The outcome is named as that of a generation."""

    outcome: str = "abort"
    num_tokens: int = 0


class Operations:
    """Embeds, ranks and tokenizes, under the same rules as the pipeline generates."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def embed(
        self, principal: Principal, model: str | None, inputs: Sequence[Prompt]
    ) -> Result[Embeddings]:
        """Embed texts or token sequences.

        Raises:
            InferFluxError: it was refused, or failed.
        """

        def call(check: Check | None, call_id: int) -> Call:
            return Embed(call_id=call_id, inputs=[_checked(prompt, check) for prompt in inputs])

        return await self._run(principal, model, call, Embeddings)

    async def rank(
        self, principal: Principal, model: str | None, query: str, documents: list[str]
    ) -> Result[Scores]:
        """Score documents by how well they answer a query.

        Raises:
            InferFluxError: it was refused, or failed.
        """

        def call(check: Check | None, call_id: int) -> Call:
            texts = [query, *documents]
            if check is not None:
                texts = [check(text) for text in texts]
            return Rank(call_id=call_id, query=texts[0], documents=texts[1:])

        return await self._run(principal, model, call, Scores)

    async def tokenize(
        self, principal: Principal, model: str | None, prompt: Prompt
    ) -> Result[Tokens]:
        """Render and tokenize a prompt.

        Raises:
            InferFluxError: it was refused, or failed.
        """

        def call(check: Check | None, call_id: int) -> Call:
            return Tokenize(call_id=call_id, prompt=_checked(prompt, check))

        return await self._run(principal, model, call, Tokens)

    async def render(
        self, principal: Principal, model: str | None, prompt: ChatPrompt
    ) -> Result[Text]:
        """Say what a conversation looks like to a model.

        Raises:
            InferFluxError: it was refused, or failed.
        """

        def call(check: Check | None, call_id: int) -> Call:
            checked = _checked(prompt, check)
            assert isinstance(checked, ChatPrompt)
            return Render(call_id=call_id, prompt=checked)

        return await self._run(principal, model, call, Text)

    async def detokenize(
        self, principal: Principal, model: str | None, token_ids: list[int]
    ) -> Result[Text]:
        """Turn token ids into text. It is the caller's own, so no guardrail has a say in it.

        Raises:
            InferFluxError: it was refused, or failed.
        """
        return await self._run(
            principal,
            model,
            lambda _, call_id: Detokenize(call_id=call_id, token_ids=token_ids),
            Text,
        )

    async def moderate(self, principal: Principal, texts: Sequence[str]) -> Verdict:
        """What the guardrails say of texts.

        Raises:
            InvalidRequestError: there is no guardrail to ask.
            InferFluxError: it was refused, or failed.
        """
        pipeline = self._pipeline
        if not pipeline.guardrails.active:
            raise InvalidRequestError(
                "this server has no guardrails to moderate with; set `guardrails` in its configuration"
            )
        principal = pipeline.authenticator.renew(principal)
        with await pipeline.limiter.reserve(principal, None, Estimate(0)) as reservation:
            request_id = secrets.token_hex(12)
            pipeline.audit.received(request_id, principal, _GUARDRAILS)
            context = GuardrailContext(request_id, principal.tenant, _GUARDRAILS, Direction.PROMPT)
            objections = [await pipeline.guardrails.objections(context, text) for text in texts]
            pipeline.audit.completed(
                request_id,
                principal,
                _GUARDRAILS,
                outcome="stop",
                prompt_tokens=0,
                completion_tokens=0,
            )
            return Verdict(request_id, objections, reservation.headers)

    async def _run(
        self,
        principal: Principal,
        name: str | None,
        make: Callable[[Check | None, int], Call],
        kind: type[T],
    ) -> Result[T]:
        pipeline = self._pipeline
        principal, target = pipeline.enter(principal, name)
        if target.is_adapter and kind in (Embeddings, Scores):
            raise InvalidRequestError(
                f"'{name}' is an adapter and embeddings are computed without; use the model "
                f"'{target.model.name}'",
                param="model",
            )
        request_id = secrets.token_hex(12)
        unchecked = make(None, 0)
        limiter, estimate = pipeline.limiter, call_estimate(unchecked)
        with await limiter.reserve(principal, target.model.name, estimate) as reservation:
            async with self._accounted(principal, target, request_id) as account:
                check = self._check(principal, target, request_id, reservation.headers)
                engine = target.model.engine
                audit, named = pipeline.audit, (request_id, principal, target.model.name)
                audit.prompted("full", *named, [unchecked])
                checked = partial(make, check, engine.next_id())
                if check is None:
                    call = checked()
                else:
                    call = await check.run(checked, len(msgspec.msgpack.encode(unchecked)))
                    await check.review()
                    audit.prompted("redacted", *named, [call])
                async with pipeline.engines.lease(target.model):
                    answer = await engine.call(call)
                    max_model_len = engine.info.max_model_len
                assert isinstance(answer, kind)
                if isinstance(answer, Embeddings | Scores):
                    account.num_tokens = reservation.used = answer.num_tokens
        model = name or target.model.name
        return Result(request_id, model, max_model_len, answer, reservation.headers)

    def _check(
        self, principal: Principal, target: Target, request_id: str, headers: dict[str, str]
    ) -> PromptCheck | None:
        guardrails = self._pipeline.guardrails
        if not guardrails.active:
            return None
        context = self._pipeline.context(principal, target.model, request_id, Direction.PROMPT)
        return guardrails.check_prompt(context, headers)

    @asynccontextmanager
    async def _accounted(
        self, principal: Principal, target: Target, request_id: str
    ) -> AsyncGenerator[_Account, None]:
        """Note a request before anything is done for it, and settle the accounts whatever happens."""
        model, metrics, audit = target.model, self._pipeline.metrics, self._pipeline.audit
        labels = (model.name, model.backend)
        audit.received(request_id, principal, model.name)
        account, started = _Account(), time.monotonic()
        try:
            yield account
            account.outcome = "stop"
        except InferFluxError:
            account.outcome = "error"
            raise
        finally:
            metrics.requests.labels(*labels, account.outcome).inc()
            if account.num_tokens:
                metrics.prompt_tokens.labels(*labels).inc(account.num_tokens)
                metrics.duration.labels(*labels).observe(time.monotonic() - started)
            audit.completed(
                request_id,
                principal,
                model.name,
                outcome=account.outcome,
                prompt_tokens=account.num_tokens,
                completion_tokens=0,
            )


def _checked(prompt: Prompt, check: Check | None) -> Prompt:
    return prompt if check is None else checked_prompt(prompt, check)
