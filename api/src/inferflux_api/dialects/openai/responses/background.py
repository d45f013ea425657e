"""Responses that are written while nobody waits for them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import msgspec

from inferflux_api.dialects.openai.responses.answering import (
    keep_in,
    open_generation,
    renderer_of,
    understand,
)
from inferflux_api.dialects.openai.responses.draft import Draft
from inferflux_api.dialects.openai.responses.events import split_events
from inferflux_api.dialects.openai.responses.schemas import ResponsesRequest
from inferflux_api.dialects.openai.responses.store import ResponseStore
from inferflux_api.dialects.openai.responses.translate import Wanted, echo
from inferflux_api.generation import GenerationRequest, Usage
from inferflux_api.http.streaming import stream
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.errors import InferFluxError, QueueFullError

__all__ = ["BackgroundRun", "BackgroundRuns"]

logger = logging.getLogger("inferflux.http")

_MOST_RUNS: Final = 64
"""Responses that wait or run at a time."""


class BackgroundRun:
    """One response, as far as it has come.

    Attributes:
        wanted: what was asked for.
        streamed: whether its events are kept for readers.
    """

    def __init__(
        self,
        server: Server,
        principal: Principal,
        wanted: Wanted,
        request: GenerationRequest,
        store: ResponseStore,
    ) -> None:
        self.wanted = wanted
        self.streamed = bool(wanted.body.stream)
        self._server = server
        self._principal = principal
        self._request = request
        self._store = store
        self._events: list[bytes] = []
        self._news = asyncio.Event()
        self._draft = Draft(
            id=f"resp_{secrets.token_hex(12)}",
            created=int(time.time()),
            model=request.model or server.engines.seen_by(principal).resolve(None).name,
            echo=echo(wanted.body),
            usage=Usage(),
        )
        self._renderer = renderer_of(wanted, self._draft, principal.tenant, [])
        self._log(self._renderer.queued())
        self._ended = False
        self._task = asyncio.create_task(self._answer())
        self._task.add_done_callback(self._done)

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and id."""
        return self._principal.tenant, self._draft.id

    def body(self) -> bytes:
        """The response as it is now."""
        return msgspec.json.encode(self._draft.body())

    async def cancel(self) -> None:
        """End it, and wait until it has."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call this once it has ended and is stored."""
        self._task.add_done_callback(lambda _: callback())

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        """Its events with sequence numbers above `after`, as they come."""
        position = after + 1
        while True:
            news = self._news
            new = self._events[position:]
            if new:
                position += len(new)
                yield b"".join(new)
            elif self._ended:
                return
            else:
                await news.wait()

    async def _answer(self) -> None:
        try:
            generation = await open_generation(
                self._server, self._principal, self.wanted, self._request
            )
        except InferFluxError as error:
            self._server.count_error(error)
            self._log(self._renderer.error(error))
            return
        self._draft.usage = generation.usage
        async with aclosing(stream(self._server, generation, self._renderer)) as chunks:
            async for chunk in chunks:
                self._log(chunk)

    def _log(self, chunk: bytes) -> None:
        if self.streamed:
            self._events += split_events(chunk)
            self._news.set()
            self._news = asyncio.Event()

    def _done(self, task: asyncio.Task[None]) -> None:
        """Store what there is. Not a part of the task: one that was cancelled early never ran."""
        if task.cancelled():
            self._renderer.cancel()
        elif (problem := task.exception()) is not None:
            logger.error("a response in the background failed", exc_info=problem)
            error = InferFluxError("the server failed on this request; it was logged")
            self._log(self._renderer.error(error))
        events = b"".join(self._events)
        keep_in([self._store], self.key[0], self.wanted, self._draft, self.body(), events)
        self._ended = True
        self._news.set()


class BackgroundRuns:
    """Those that wait or run. They end when the server does."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], BackgroundRun] = {}

    def start(
        self, server: Server, principal: Principal, body: ResponsesRequest, store: ResponseStore
    ) -> BackgroundRun:
        """Begin to write a response.

        Raises:
            InferFluxError: it asks for what does not exist, or too many run already.
        """
        if len(self._runs) >= _MOST_RUNS:
            raise QueueFullError(
                f"{_MOST_RUNS} responses run in the background already; wait until one has ended",
                retry_after=5,
            )
        if self.stop not in server.on_stop:
            server.on_stop.append(self.stop)
        server.engines.seen_by(principal).resolve(body.model)
        wanted, request = understand(body, principal.tenant, [store])
        run = BackgroundRun(server, principal, wanted, request, store)
        self._runs[run.key] = run
        run.on_end(lambda: self._runs.pop(run.key))
        return run

    def find(self, tenant: str, name: str) -> BackgroundRun | None:
        """The tenant's run of that name, if it still runs."""
        return self._runs.get((tenant, name))

    async def stop(self) -> None:
        """End all."""
        await asyncio.gather(*(run.cancel() for run in list(self._runs.values())))
