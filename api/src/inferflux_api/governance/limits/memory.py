"""Counting in this process."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from inferflux_api.governance.limits.rules import Rule
from inferflux_api.governance.limits.store import CONCURRENT_WAIT, Charge, Grant, Standing
from inferflux_api.governance.limits.window import Window, end_of

__all__ = ["MemoryStore"]

_MOST_WINDOWS: Final = 100_000


class MemoryStore:
    """Windows and running requests by name. Windows in which nothing is left are forgotten.

    Args:
        clock: seconds; never goes back, whatever happens to the time of day.
        most_windows: of each length; beyond that the one that was used least recently is forgotten.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, most_windows: int = _MOST_WINDOWS
    ) -> None:
        self._clock = clock
        self._most = most_windows
        # By length, so that those to forget come first in each.
        self._windows: defaultdict[float, OrderedDict[str, Window]] = defaultdict(OrderedDict)
        self._running: Counter[str] = Counter()

    @property
    def size(self) -> int:
        """Names that are remembered."""
        return len(self._running) + sum(map(len, self._windows.values()))

    async def start(self) -> None:
        """There is nothing to get ready."""

    async def reserve(self, charges: Sequence[Charge]) -> Grant:
        """Count all charges if every one fits, else none."""
        now = self._clock()
        standings = [self._standing(charge, now) for charge in charges]
        grant = Grant(self, "", charges, standings)
        if grant.admitted:
            for charge, standing in zip(charges, standings, strict=True):
                grant.slices.append(index := self._count(charge.rule, charge.amount, now))
                standing.used += charge.amount
                standing.reset = end_of(index, charge.rule.seconds) - now
        return grant

    def settle(self, grant: Grant, used: int | None) -> None:
        """Correct what was counted for a request that has ended."""
        now = self._clock()
        for charge, index in zip(grant.charges, grant.slices, strict=True):
            rule, owed = charge.rule, charge.owed(used)
            if not rule.seconds:
                self._running[rule.counter] -= charge.amount
                if not self._running[rule.counter]:
                    del self._running[rule.counter]
            elif owed > 0:
                self._count(rule, owed, now)
            elif (window := self._windows[rule.seconds].get(rule.counter)) is not None:
                window.give_back(index, -owed)

    async def close(self) -> None:
        """There is nothing to let go."""

    def _standing(self, charge: Charge, now: float) -> Standing:
        rule, amount = charge.rule, charge.amount
        if not rule.seconds:
            used = self._running.get(rule.counter, 0)
            return Standing(rule, used, 0.0, CONCURRENT_WAIT if used + amount > rule.limit else 0.0)
        window = self._windows[rule.seconds].get(rule.counter)
        if window is None:
            return Standing(rule, 0, 0.0, 0.0)
        window.advance(now)
        excess = window.used + amount - rule.limit
        wait = window.wait(now, excess) if amount and excess > 0 else 0.0
        return Standing(rule, window.used, window.reset(now), wait)

    def _count(self, rule: Rule, amount: int, now: float) -> int:
        if not rule.seconds:
            self._running[rule.counter] += amount
            return 0
        windows = self._windows[rule.seconds]
        window = windows.get(rule.counter)
        if window is None:
            self._forget(windows, now)
            window = windows[rule.counter] = Window(rule.seconds)
        windows.move_to_end(rule.counter)
        return window.charge(now, amount)

    def _forget(self, windows: OrderedDict[str, Window], now: float) -> None:
        while windows:
            window = next(iter(windows.values()))
            window.advance(now)
            if window.reset(now) > 0 and len(windows) < self._most:
                return
            windows.popitem(last=False)
