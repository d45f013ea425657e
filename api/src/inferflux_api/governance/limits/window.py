"""How much was used in the seconds before now, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["SLICES", "Window", "end_of"]

SLICES: Final = 60
"""Of a window, each counted as one: what is used leaves the window up to one slice late, never early."""


def end_of(index: int, seconds: float) -> float:
    """When a slice leaves a window of so many seconds, by the clock that numbers it."""
    return (index + SLICES + 1) * seconds / SLICES


class Window:
    """A sliding window.

    Attributes:
        used: in the window, as of the last `advance`.
    """

    __slots__ = ("_seconds", "_slices", "_step", "used")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._step = seconds / SLICES
        self._slices: deque[list[int]] = deque()
        self.used = 0

    def advance(self, now: float) -> None:
        """Forget what has left the window."""
        slices = self._slices
        oldest = int(now // self._step) - SLICES
        while slices and slices[0][0] < oldest:
            self.used -= slices.popleft()[1]

    def charge(self, now: float, amount: int) -> int:
        """Count an amount; returns the slice that it is in."""
        index = int(now // self._step)
        self.used += amount
        if self._slices and self._slices[-1][0] == index:
            self._slices[-1][1] += amount
        else:
            self._slices.append([index, amount])
        return index

    def give_back(self, index: int, amount: int) -> None:
        """Uncount a part of what was counted in a slice, unless that has left the window."""
        for entry in reversed(self._slices):
            if entry[0] == index:
                amount = min(amount, entry[1])
                entry[1] -= amount
                self.used -= amount
                return

    def wait(self, now: float, excess: int) -> float:
        """Seconds until so much will have left the window."""
        for index, amount in self._slices:
            excess -= amount
            if excess <= 0:
                return end_of(index, self._seconds) - now
        return self.reset(now)

    def reset(self, now: float) -> float:
        """Seconds until everything will have left the window."""
        if not self._slices:
            return 0.0
        return end_of(self._slices[-1][0], self._seconds) - now
