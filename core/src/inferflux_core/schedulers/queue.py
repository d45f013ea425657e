"""Requests in an order that is known when they come."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from inferflux_core.engine.request import Request

__all__ = ["RequestQueue", "by_priority"]


def by_priority(request: Request) -> tuple[int, float, int]:
    """Better priority first, then earlier arrival."""
    return request.priority, request.arrival, request.request_id


class RequestQueue:
    """A heap from which any request can be removed.

    Removal only marks; what was removed is skipped when it comes to the top.

    Args:
        key: what to order by; it must not change while a request is in the queue.
    """

    def __init__(self, key: Callable[[Request], Any] = by_priority) -> None:
        self._key = key
        self._heap: list[tuple[Any, int, Request]] = []
        self._members: set[int] = set()
        self._entries = 0

    def __len__(self) -> int:
        return len(self._members)

    def push(self, request: Request) -> None:
        """Add a request that is not in the queue."""
        self._entries += 1
        self._members.add(request.request_id)
        heapq.heappush(self._heap, (self._key(request), self._entries, request))

    def remove(self, request: Request) -> None:
        """Take a request out; nothing happens if it is not there."""
        if request.request_id in self._members:
            self._members.remove(request.request_id)
            if len(self._heap) > 2 * len(self._members) + 16:
                self._heap = [e for e in self._heap if e[2].request_id in self._members]
                heapq.heapify(self._heap)

    def first(self) -> Request | None:
        """The request whose turn it is."""
        while self._heap:
            request = self._heap[0][2]
            if request.request_id in self._members:
                return request
            heapq.heappop(self._heap)
        return None
