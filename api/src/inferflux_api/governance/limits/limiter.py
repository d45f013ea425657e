"""The one place that decides whether a caller has had enough."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from inferflux_api.governance.limits.estimate import Estimate
from inferflux_api.governance.limits.headers import limit_headers
from inferflux_api.governance.limits.memory import MemoryStore
from inferflux_api.governance.limits.rules import Rule, Rules
from inferflux_api.governance.limits.store import Charge, Grant, LimitStore, StoreFailedError
from inferflux_core.auth import Principal
from inferflux_core.config.schema import RateLimitConfig
from inferflux_core.errors import (
    ConfigError,
    InvalidRequestError,
    LimitsUnavailableError,
    RateLimitedError,
    StartupError,
)

__all__ = ["Limiter", "Reservation"]

logger = logging.getLogger("inferflux.limits")


class Reservation:
    """What a request holds of the limits, until it is settled. As a context, it is settled at the end.

    Attributes:
        headers: for the response; a dictionary of its own.
        used: tokens so far.
    """

    __slots__ = ("_grant", "headers", "used")

    def __init__(self, grant: Grant | None = None) -> None:
        self._grant = grant
        self.headers = limit_headers(grant.standings) if grant else {}
        self.used = 0

    def settle(self) -> None:
        """Keep the tokens that were used and give the rest back. It does not wait. Idempotent."""
        grant, self._grant = self._grant, None
        if grant is not None:
            grant.store.settle(grant, self.used)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.settle()


class Limiter:
    """Limits requests and tokens of tenants, keys and models.

    Args:
        config: the limits, and where to count.
        store: where to count instead.

    Raises:
        StartupError: the storage cannot be used here.
    """

    def __init__(self, config: RateLimitConfig, store: LimitStore | None = None) -> None:
        self.set_limits(config)
        self._store = store or _open_store(config)
        # Without its storage a replica counts for itself, which is better than not at all.
        self._fallback = MemoryStore() if config.on_storage_failure == "allow" else None
        self._failing = False

    def set_limits(self, config: RateLimitConfig) -> None:
        """Limit by another configuration from the next request on; what was counted stays counted."""
        self._rules = Rules(config)
        self._expected_answer = config.expected_answer_tokens

    async def start(self) -> None:
        """Reach the storage.

        Raises:
            StartupError: it cannot be reached, and nothing may be served without it.
        """
        try:
            await self._store.start()
        except StoreFailedError as error:
            if self._fallback is None:
                raise StartupError(
                    f"rate_limit.storage: {error}",
                    hint="start it, or set `rate_limit.on_storage_failure: allow` to serve without it",
                ) from error
            self._note_failure(error)

    async def close(self) -> None:
        """Settle what is still open, and let go."""
        await self._store.close()

    async def reserve(
        self, principal: Principal, model: str | None, estimate: Estimate
    ) -> Reservation:
        """Admit a request: count it, and the tokens that it may use.

        Args:
            principal: who asks.
            model: that it is for, if it is for one.
            estimate: of its tokens.

        Raises:
            InvalidRequestError: it asks for more tokens than could ever be admitted.
            RateLimitedError: something is used up; it says when to try again.
            LimitsUnavailableError: the storage does not answer.
        """
        rules = self._rules.of(principal, model)
        if not rules:
            return Reservation()
        tokens = self._tokens(estimate, rules)
        charges = [
            Charge(rule, tokens if rule.in_tokens else 1)
            for rule in rules
            if tokens or not rule.in_tokens
        ]
        for charge in charges:
            _refuse_impossible(charge)
        grant = await self._ask(charges)
        if not grant.admitted:
            raise _refusal(grant)
        return Reservation(grant)

    def _tokens(self, estimate: Estimate, rules: Sequence[Rule]) -> int:
        tokens = estimate.tokens + estimate.open_answers * self._expected_answer
        if not estimate.open_answers:
            return tokens
        # What nobody asked for must not be the reason to refuse a request for good.
        most = min((rule.limit for rule in rules if rule.in_tokens), default=tokens)
        return min(tokens, max(most, estimate.tokens + estimate.open_answers))

    async def _ask(self, charges: Sequence[Charge]) -> Grant:
        try:
            grant = await self._store.reserve(charges)
        except StoreFailedError as error:
            self._note_failure(error)
            if self._fallback is None:
                raise LimitsUnavailableError(
                    "limits cannot be checked just now; try again later", retry_after=1.0
                ) from error
            return await self._fallback.reserve(charges)
        if self._failing:
            self._failing = False
            logger.info("limits are counted in the storage again")
        return grant

    def _note_failure(self, error: StoreFailedError) -> None:
        if not self._failing:
            self._failing = True
            what = "requests are refused" if self._fallback is None else "counting in memory"
            logger.error("rate_limit.storage: %s; until it is back, %s", error, what)


def _refuse_impossible(charge: Charge) -> None:
    rule = charge.rule
    if charge.amount > rule.limit:
        raise InvalidRequestError(
            f"the request may use {charge.amount} tokens, prompt and answers together, and {rule} would "
            "never admit it; ask for shorter or fewer answers, or send less"
        )


def _refusal(grant: Grant) -> RateLimitedError:
    pairs = zip(grant.standings, grant.charges, strict=True)
    worst, charge = max(pairs, key=lambda pair: pair[0].wait)
    rule = worst.rule
    if not rule.in_tokens:
        message = f"{rule} is reached"
    else:
        message = (
            f"{rule} is reached: {worst.used} are used or reserved, and this request may use "
            f"{charge.amount}"
        )
    error = RateLimitedError(message, retry_after=max(worst.wait, 1.0))
    error.headers = limit_headers(grant.standings)
    return error


def _open_store(config: RateLimitConfig) -> LimitStore:
    if config.storage is None:
        return MemoryStore()
    try:
        from inferflux_api.governance.limits.shared import RedisStore
    except ImportError as error:
        raise ConfigError(
            f"rate_limit.storage: the client for Redis is missing ({error})",
            hint="pip install 'inferflux-api[redis]'",
        ) from error
    make: Callable[[str], LimitStore] = RedisStore
    return make(config.storage)
