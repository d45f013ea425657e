"""Requests in an order that is known when they come."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from inferflux_core.engine.request import Request

__all__ = ["RequestQueue", "best_of", "by_priority"]


def by_priority(request: Request) -> tuple[int, float, int]:
    """Better priority first, then earlier arrival."""
    return request.priority, request.arrival, request.request_id


def best_of(*requests: Request | None) -> Request | None:
    """The one that goes first, of those that are there."""
    return min((request for request in requests if request), key=by_priority, default=None)


class RequestQueue:
    """A heap from which any request can be removed.

    Removal only forgets an entry's number; such entries are skipped when they come to the top.

    Args:
        key: what to order by; it must not change while a request is in the queue.
    """

    def __init__(self, key: Callable[[Request], Any] = by_priority) -> None:
        self._key = key
        self._heap: list[tuple[Any, int, Request]] = []
        self._entries: dict[int, int] = {}
        self._num_pushed = 0

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, request: Request) -> None:
        """Add a request that is not in the queue."""
        self._num_pushed += 1
        self._entries[request.request_id] = self._num_pushed
        heapq.heappush(self._heap, (self._key(request), self._num_pushed, request))

    def remove(self, request: Request) -> None:
        """Take a request out; nothing happens if it is not there."""
        if self._entries.pop(request.request_id, None) is None:
            return
        if len(self._heap) > 2 * len(self._entries) + 16:
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapq.heapify(self._heap)

    def first(self) -> Request | None:
        """The request whose turn it is."""
        while self._heap:
            if self._is_current(self._heap[0]):
                return self._heap[0][2]
            heapq.heappop(self._heap)
        return None

    def _is_current(self, entry: tuple[Any, int, Request]) -> bool:
        _, number, request = entry
        return self._entries.get(request.request_id) == number
