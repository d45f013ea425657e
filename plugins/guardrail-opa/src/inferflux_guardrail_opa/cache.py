"""Answers that still hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

__all__ = ["Cache"]

_SIZE: Final = 4096


class Cache:
    """The latest verdicts, at most 4,096 of them.

    Args:
        seconds: for which a verdict holds.
        clock: seconds, monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, str | None]] = OrderedDict()

    def get(self, key: bytes) -> tuple[bool, str | None]:
        """Whether there is a verdict, and which."""
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock():
            return False, None
        return True, entry[1]

    def put(self, key: bytes, verdict: str | None) -> None:
        """Remember a verdict; the oldest is forgotten for it."""
        if not self._seconds:
            return
        self._entries[key] = (self._clock() + self._seconds, verdict)
        self._entries.move_to_end(key)
        if len(self._entries) > _SIZE:
            self._entries.popitem(last=False)
