"""A circuit breaker: what fails again and again is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["Breaker"]

_FAILURES: Final = 5
_COOL_DOWN: Final = 5.0


class Breaker:
    """Opens after five failures in a row; then lets one attempt through every five seconds.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._next_attempt = 0.0

    def admits(self) -> bool:
        """Whether an attempt may be made now."""
        if self._failures < _FAILURES:
            return True
        now = self._clock()
        if now < self._next_attempt:
            return False
        # Whoever comes while this attempt is under way has to wait for the next one.
        self._next_attempt = now + _COOL_DOWN
        return True

    def succeeded(self) -> None:
        """An attempt brought an answer."""
        self._failures = 0

    def failed(self) -> None:
        """An attempt brought none."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self._next_attempt = self._clock() + _COOL_DOWN
