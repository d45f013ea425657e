"""What reviewers have in common: options, and the bounds of their questions."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from inferflux_core.breaker import Breaker
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext
from inferflux_core.guardrails.verdict_cache import Verdict, VerdictCache

__all__ = ["Check", "Judge", "ReviewError", "ReviewerConfig", "category", "decision", "facts"]

Check = Literal["prompt", "output"]

_CATEGORY: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class ReviewError(Exception):
    """There is no verdict; the message says why, for the operator, without the text."""


class ReviewerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of every reviewer.

    Attributes:
        checks: the texts to ask about.
        piece: characters of an answer that are held back until they are judged, together with all that
            went before; null holds back the whole answer.
        timeout: seconds for one question.
        cache_seconds: for which a verdict holds; 0 asks every time.
        max_bytes: of a question; a longer text counts as a failure.
        action: `block` is all that a reviewer can do.
    """

    checks: Annotated[list[Check], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["prompt", "output"]
    )
    piece: Annotated[int, Meta(ge=1)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=25)] = 0.25
    cache_seconds: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    max_bytes: Annotated[int, Meta(ge=1024)] = 1024 * 1024
    action: Literal["block"] = "block"

    @property
    def directions(self) -> frozenset[Direction]:
        """`checks`, as a `Reviewer` says it."""
        return frozenset(Direction(check) for check in self.checks)


class Judge:
    """Asks within bounds: so many bytes, so many seconds, not again and again after failures, not twice.

    Args:
        whom: who is asked, for messages.
        config: the bounds.
        clock: seconds, monotonic.
    """

    def __init__(
        self, whom: str, config: ReviewerConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._whom = whom
        self._config = config
        self._breaker = Breaker(clock)
        self._cache = VerdictCache(config.cache_seconds, clock)

    async def review(
        self, context: GuardrailContext, question: bytes, ask: Callable[[], Awaitable[Verdict]]
    ) -> None:
        """Judge a text.

        Args:
            context: of the text.
            question: all that the verdict depends on.
            ask: gets the verdict.

        Raises:
            Blocked: it may not pass.
            ReviewError: there is no verdict.
        """
        if len(question) > self._config.max_bytes:
            raise ReviewError(f"a question of {len(question)} bytes is longer than `max_bytes`")
        key = hashlib.sha256(question).digest()
        verdict = self._cache.get(key)
        if verdict is None:
            verdict = await self._ask(ask)
            self._cache.put(key, verdict)
        if verdict.flagged is not None:
            context.flag(verdict.flagged)
        if verdict.blocked is not None:
            raise Blocked(verdict.blocked)

    async def _ask(self, ask: Callable[[], Awaitable[Verdict]]) -> Verdict:
        if not self._breaker.admits():
            raise ReviewError(f"{self._whom} has failed several times; it is asked again soon")
        try:
            async with asyncio.timeout(self._config.timeout):
                verdict = await ask()
        except TimeoutError:
            self._breaker.failed()
            seconds = f"{self._config.timeout:g} seconds"
            raise ReviewError(f"no answer of {self._whom} within {seconds}") from None
        except ReviewError as error:
            self._breaker.failed()
            raise ReviewError(f"{self._whom}: {error}") from error
        except Exception as error:
            self._breaker.failed()
            # What a library says of a text may repeat it.
            raise ReviewError(f"{self._whom}: {type(error).__name__}") from None
        self._breaker.succeeded()
        return verdict


def facts(context: GuardrailContext, text: str) -> dict[str, str]:
    """What a policy in Rego finds in `input`; the request's id is not among it."""
    return {
        "direction": context.direction.value,
        "tenant": context.tenant,
        "model": context.model,
        "text": text,
    }


def decision(guardrail: str, result: Any) -> Verdict:
    """Read what a policy in Rego decided: true or false, or an object with `allow` and perhaps `reason`.

    Raises:
        ReviewError: it is something else.
    """
    details = result if isinstance(result, dict) else {}
    allowed = details.get("allow", False) if isinstance(result, dict) else result
    if allowed is True:
        return Verdict()
    if allowed is not False:
        raise ReviewError("its decision is neither true nor false")
    return Verdict(blocked=category(guardrail, details.get("reason")))


def category(guardrail: str, reason: Any) -> str:
    """The category of a finding: the guardrail's name, followed by the reason if that is a short word.

    Anything longer might repeat what was found.
    """
    if isinstance(reason, str) and _CATEGORY.fullmatch(reason):
        return f"{guardrail}.{reason}"
    return guardrail
