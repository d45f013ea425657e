"""Requests that wait for the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from inferflux_core.engine.kv.disk_tier import DiskTier
from inferflux_core.engine.request import Request

__all__ = ["Arrival", "Loads"]

_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, the blocks it waited for, and the contents of as many of them as are sound."""

    request: Request
    names: Sequence[bytes]
    contents: Sequence[bytes]


class Loads:
    """Reads blocks for requests, one after the other, and no more than memory has room for.

    A request of many tokens takes gigabytes, and a hundred may wait for a slot. While what has come, and
    is not in a slot yet, exceeds a limit, further requests wait for their blocks.

    Args:
        disk: where blocks come from.
        limit: bytes.
    """

    def __init__(self, disk: DiskTier, limit: int) -> None:
        self._disk = disk
        self._limit = limit
        self._waiting: dict[int, tuple[Request, Sequence[bytes]]] = {}
        self._asked: set[int] = set()
        self._held: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def available(self, names: Sequence[bytes]) -> Sequence[bytes]:
        """The first of these blocks, as far as they are on disk."""
        for count, name in enumerate(names):
            if name not in self._disk:
                return names[:count]
        return names

    def add(self, request: Request, names: Sequence[bytes]) -> None:
        """Read blocks for a request; `take` hands it out."""
        self._waiting[request.request_id] = (request, names)
        self._ask()

    def remove(self, request: Request) -> bool:
        """A request waits no longer; returns whether it did."""
        return self._waiting.pop(request.request_id, None) is not None

    def take(self) -> list[Arrival]:
        """The requests whose blocks have come."""
        if not (self._waiting or self._asked):
            return []
        arrivals = []
        for loaded in self._disk.poll():
            self._asked.discard(loaded.request_id)
            if (waiting := self._waiting.pop(loaded.request_id, None)) is not None:
                self._held[loaded.request_id] = sum(map(len, loaded.contents))
                arrivals.append(Arrival(*waiting, loaded.contents))
        self._ask()
        return arrivals

    def settle(self, request: Request) -> None:
        """What has come for a request is in its slot, or not needed any more."""
        if self._held.pop(request.request_id, None):
            self._ask()

    def wait(self, timeout: float) -> None:
        """Sleep until `take` has something to return, at most `timeout` seconds."""
        if self._asked:
            self._disk.wait(timeout)

    def check_integrity(self) -> None:
        """Assert that somebody who waits is being served, unless memory is full; for tests."""
        assert self._asked or not self._waiting or sum(self._held.values()) > self._limit
        assert not self._held.keys() & self._waiting.keys()

    def _ask(self) -> None:
        for request_id, (_, names) in self._waiting.items():
            if len(self._asked) >= _AT_ONCE or sum(self._held.values()) > self._limit:
                break
            if request_id not in self._asked:
                self._asked.add(request_id)
                self._disk.load(request_id, names)
