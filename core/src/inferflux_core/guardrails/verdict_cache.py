"""Verdicts that still hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Verdict", "VerdictCache"]

_SIZE: Final = 4096


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody says of a text; with neither, it may pass.

    Attributes:
        blocked: the category for which it may not pass.
        flagged: the category of a finding that may pass.
    """

    blocked: str | None = None
    flagged: str | None = None


class VerdictCache:
    """The latest verdicts, at most 4,096 of them.

    Args:
        seconds: for which a verdict holds; 0 keeps none.
        clock: seconds, monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, Verdict]] = OrderedDict()

    def get(self, key: bytes) -> Verdict | None:
        """The verdict, if there is one that holds."""
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock():
            return None
        return entry[1]

    def put(self, key: bytes, verdict: Verdict) -> None:
        """Remember a verdict; the oldest is forgotten for it."""
        if not self._seconds:
            return
        self._entries[key] = (self._clock() + self._seconds, verdict)
        self._entries.move_to_end(key)
        if len(self._entries) > _SIZE:
            self._entries.popitem(last=False)
