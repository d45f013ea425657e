"""Sending an answer while it comes, whatever the dialect."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, Protocol

from litestar.background_tasks import BackgroundTask
from litestar.response import Stream

from inferflux_api.generation import Delta
from inferflux_api.pipeline import Generation
from inferflux_api.server import Server
from inferflux_core.errors import InferFluxError

__all__ = ["StreamRenderer", "respond_stream", "stream"]

_HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class StreamRenderer(Protocol):
    """Turns a generation into the bytes of one dialect."""

    def start(self) -> bytes:
        """What comes before the first delta."""

    def delta(self, delta: Delta) -> bytes:
        """The bytes of a delta."""

    async def end(self) -> bytes:
        """What comes after the last delta, when all went well."""

    def error(self, error: InferFluxError) -> bytes:
        """The last bytes, when something went wrong on the way."""


async def stream(
    server: Server, generation: Generation, renderer: StreamRenderer
) -> AsyncGenerator[bytes, None]:
    """The bytes of an answer; closes the generation, whatever happens."""
    pending = renderer.start()
    try:
        async for delta in generation.deltas():
            yield pending + renderer.delta(delta)
            pending = b""
        last = pending + await renderer.end()
    except InferFluxError as error:
        server.count_error(error)
        last = pending + renderer.error(error)
    finally:
        await generation.close()
    if last:
        yield last


def respond_stream(
    server: Server,
    generation: Generation,
    renderer: StreamRenderer,
    media_type: str = "text/event-stream",
) -> Stream:
    """A response that streams an admitted generation."""
    return Stream(
        stream(server, generation, renderer),
        media_type=media_type,
        headers={**_HEADERS, **generation.headers},
        # A client that has gone before the first byte leaves `stream` unstarted, with nothing to close it.
        background=BackgroundTask(generation.close),
    )
