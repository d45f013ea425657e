"""`grpc.health.v1`: serving while every model that is to be in memory can be used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import grpc
from grpc_health.v1.health import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from inferflux_api.server import Server

__all__ = ["Health"]

_SECONDS: Final = 1.0
"""How late those who watch may hear of it."""


class Health(aio.HealthServicer):
    """Answers from the state of the server.

    Args:
        server: to ask.
        names: of the services that are served.
    """

    def __init__(self, server: Server, names: Iterable[str]) -> None:
        super().__init__()
        self._server = server
        self._names = ("", *names)
        self._watching: set[asyncio.Timeout] = set()

    async def refresh(self) -> None:
        """Note how the server is now."""
        status = (
            HealthCheckResponse.SERVING if self._server.ready else HealthCheckResponse.NOT_SERVING
        )
        for name in self._names:
            await self.set(name, status)

    async def keep_fresh(self) -> None:
        """For those who watch; runs until it is cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(_SECONDS)

    async def shut_down(self) -> None:
        """Tell everybody, and let nobody who watches hold up the end."""
        await self.enter_graceful_shutdown()
        for watching in self._watching:
            watching.reschedule(asyncio.get_running_loop().time() + 0.1)

    async def Check(  # noqa: N802 - the library's name
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> HealthCheckResponse:
        """How the server is."""
        await self.refresh()
        answer: HealthCheckResponse = await super().Check(request, context)
        return answer

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """How the server is, whenever that changes, until it ends."""
        await self.refresh()
        watching = asyncio.timeout(None)
        self._watching.add(watching)
        try:
            async with watching:
                await super().Watch(request, context)
        except TimeoutError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        finally:
            self._watching.discard(watching)
