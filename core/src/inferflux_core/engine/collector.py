"""Between an engine that must never wait and a client that may be slow."""

from __future__ import annotations

import asyncio

from inferflux_core.engine.protocol import RequestOutput

__all__ = ["OutputCollector"]


class OutputCollector:
    """A mailbox for one request. Outputs that are not fetched in time are merged, so it holds one at most."""

    __slots__ = ("_pending", "_waiter")

    def __init__(self) -> None:
        self._pending: RequestOutput | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, output: RequestOutput) -> None:
        """Add an output; wakes the one who waits."""
        self._pending = output if self._pending is None else self._pending.merge(output)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> RequestOutput:
        """Everything new since the last call; waits if there is nothing."""
        if self._pending is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        output, self._pending = self._pending, None
        assert output is not None
        return output
