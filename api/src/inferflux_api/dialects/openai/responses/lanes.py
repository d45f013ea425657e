"""Requests on one WebSocket: one after the other in a lane, lanes beside each other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

from inferflux_api.dialects.openai.responses.schemas import ResponsesRequest
from inferflux_core.errors import InvalidRequestError, QueueFullError

__all__ = ["ClientEvent", "Lanes"]

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_MOST_NAMED: Final = 32
_MOST_ACTIVE: Final = 16
_MOST_WAITING: Final = 32
"""Requests that wait in a lane."""
_MOST_BYTES: Final = 32 * 1024 * 1024
"""That wait in all lanes of a connection, unless a single request has more."""


class InvalidLaneError(InvalidRequestError):
    """A lane cannot have that name."""

    code = "invalid_stream_id"


class TooManyLanesError(InvalidRequestError):
    """There are as many lanes as a connection can have."""

    code = "websocket_stream_limit_reached"


class ClientEvent(ResponsesRequest, frozen=True, kw_only=True):
    """What a client sends over a WebSocket: a request, and which lane it goes to."""

    type: str
    stream_id: str | None = None
    generate: bool | None = None


Answer = Callable[[ClientEvent], Awaitable[None]]
_Queue = asyncio.Queue[tuple[ClientEvent, int]]


class Lanes:
    """Runs what answers requests.

    Args:
        answer: a request; raises nothing.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._active = asyncio.Semaphore(_MOST_ACTIVE)
        self._queues: dict[str | None, _Queue] = {}
        self._waiting_bytes = 0
        self._tasks: list[asyncio.Task[None]] = []

    def put(self, event: ClientEvent, size: int) -> None:
        """Have a request, of `size` bytes, answered after those before it in its lane.

        Raises:
            InvalidRequestError: there can be no such lane.
            QueueFullError: too much waits already.
        """
        queue = self._queues.get(event.stream_id)
        if queue is None:
            queue = self._opened(event.stream_id)
        too_large = self._waiting_bytes and self._waiting_bytes + size > _MOST_BYTES
        if queue.full() or too_large:
            raise QueueFullError(
                f"at most {_MOST_WAITING} requests wait in a lane, and {_MOST_BYTES} bytes in all; "
                "wait for answers",
                param="stream_id",
            )
        self._waiting_bytes += size
        queue.put_nowait((event, size))

    async def close(self) -> None:
        """End everything that runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _opened(self, name: str | None) -> _Queue:
        if name is not None:
            if not _NAME.fullmatch(name):
                raise InvalidLaneError(
                    "a stream_id has 1 to 256 letters, digits, `_`, `.` and `-`", param="stream_id"
                )
            if len(self._queues.keys() - {None}) >= _MOST_NAMED:
                raise TooManyLanesError(
                    f"a connection has at most {_MOST_NAMED} streams; use one of them, or another "
                    "connection",
                    param="stream_id",
                )
        queue: _Queue = asyncio.Queue(_MOST_WAITING)
        self._queues[name] = queue
        self._tasks.append(asyncio.create_task(self._run(queue)))
        return queue

    async def _run(self, queue: _Queue) -> None:
        while True:
            event, size = await queue.get()
            async with self._active:
                self._waiting_bytes -= size
                await self._answer(event)
