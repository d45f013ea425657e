"""A bound on records that anybody can cause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Flood"]

_BURST: Final = 100.0
_PER_SECOND: Final = 2.0


class Flood:
    """Lets 100 records through at once, and 2 a second for long; counts the others.

    Args:
        clock: seconds, from any start, that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room = _BURST
        self._at = clock()
        self._suppressed = 0
        self._mutex = threading.Lock()

    def admits(self) -> bool:
        """Whether one more may be written."""
        with self._mutex:
            now = self._clock()
            self._room = min(_BURST, self._room + (now - self._at) * _PER_SECOND)
            self._at = now
            if self._room < 1:
                self._suppressed += 1
                return False
            self._room -= 1
            return True

    def take(self) -> int:
        """How many were not written since this was asked last."""
        with self._mutex:
            count, self._suppressed = self._suppressed, 0
        return count
