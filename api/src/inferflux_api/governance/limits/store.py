"""What limiters ask of the place where use is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inferflux_api.governance.limits.rules import Rule

__all__ = ["CONCURRENT_WAIT", "Charge", "Grant", "LimitStore", "Standing", "StoreFailedError"]

CONCURRENT_WAIT = 1.0
"""Seconds after which to ask again for a place among the concurrent requests; nobody knows better."""


# These are made several times per request; frozen ones would take thrice as long.


@dataclass(slots=True)
class Charge:
    """An amount that a request wants of what a rule limits."""

    rule: Rule
    amount: int

    def owed(self, used: int | None) -> int:
        """What to add after the fact; negative gives back. With `used` None, everything is given back."""
        if used is None:
            return -self.amount
        return used - self.amount if self.rule.in_tokens else 0


@dataclass(slots=True)
class Standing:
    """Where a rule stands.

    Attributes:
        rule: the rule.
        used: of its limit, the request included if that was admitted.
        reset: seconds until all of it is free again if nobody else comes.
        wait: seconds until the request would fit; 0 if it does.
    """

    rule: Rule
    used: int
    reset: float
    wait: float


@dataclass(slots=True)
class Grant:
    """What a store answers.

    Attributes:
        store: that answers.
        id: of the request.
        charges: all of them are counted, or none.
        standings: one for each charge.
        slices: where charges are counted, where a store wants to know that again.
    """

    store: LimitStore
    id: str
    charges: Sequence[Charge]
    standings: Sequence[Standing]
    slices: list[int] = field(default_factory=list)

    @property
    def admitted(self) -> bool:
        """Whether every charge fits."""
        return not any(standing.wait for standing in self.standings)


class StoreFailedError(Exception):
    """The store cannot be asked, or does not answer in time."""


class LimitStore(Protocol):
    """Counts."""

    async def start(self) -> None:
        """Get ready. Raises `StoreFailedError`."""

    async def reserve(self, charges: Sequence[Charge]) -> Grant:
        """Count all charges if every one fits, else none.

        Raises:
            StoreFailedError: nothing is counted.
        """

    def settle(self, grant: Grant, used: int | None) -> None:
        """Replace the tokens that were reserved by those that were used, and end the request.

        With None, the request is given back too, as if there had never been one. It neither waits nor
        fails.
        """

    async def close(self) -> None:
        """Settle what is still open, and let go."""
