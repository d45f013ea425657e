"""Pulls that go on while nobody waits for them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Final

from inferflux_api.library.serving import Library
from inferflux_core.errors import InferFluxError, QueueFullError

__all__ = ["Download", "Downloads"]

logger = logging.getLogger("inferflux.library")

_MOST_KEPT: Final = 256
_MOST_RUNNING: Final = 4


class Download:
    """One of them, as far as it has come.

    Attributes:
        id: for asking about it.
        name: of the model.
        started_at: seconds since 1970.
        ended_at: the same; None while it runs.
        total: bytes of the file at hand, 0 until that is known.
        completed: bytes of it that are there.
        error: why it has failed, if so.
    """

    def __init__(self, library: Library, name: str) -> None:
        self.id = f"job_{secrets.token_hex(12)}"
        self.name = name
        self.started_at = time.time()
        self.ended_at: float | None = None
        self.total = 0
        self.completed = 0
        self.error: InferFluxError | None = None
        self._begun = asyncio.Event()
        self._task = asyncio.create_task(self._run(library), name=f"download-{name}")

    async def begun(self) -> None:
        """Wait until it is known how much there is to fetch.

        Raises:
            InferFluxError: there is nothing to fetch.
        """
        await self._begun.wait()
        if self.error is not None:
            raise self.error

    async def stop(self) -> None:
        """Give it up; what is there stays for another attempt."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, library: Library) -> None:
        try:
            async for step in library.pull(self.name):
                if step.total is not None:
                    self.total, self.completed = step.total, step.completed or 0
                    self._begun.set()
        except InferFluxError as error:
            logger.warning("'%s' cannot be downloaded: %s", self.name, error)
            self.error = error
        finally:
            self.ended_at = time.time()
            self._begun.set()


class Downloads:
    """The downloads of a server, those that have ended among them.

    Args:
        library: where models go.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._all: dict[str, Download] = {}

    def get(self, job_id: str) -> Download | None:
        """The download of that id."""
        return self._all.get(job_id)

    def start(self, name: str) -> Download:
        """Begin one, or go along with the one of that name that runs.

        Raises:
            QueueFullError: too many run.
        """
        running = [job for job in self._all.values() if job.ended_at is None]
        for job in running:
            if job.name == name:
                return job
        if len(running) >= _MOST_RUNNING:
            raise QueueFullError(f"{_MOST_RUNNING} downloads are running; try again later")
        for ended in [job for job in self._all.values() if job.ended_at][: -_MOST_KEPT or None]:
            del self._all[ended.id]
        job = Download(self._library, name)
        self._all[job.id] = job
        return job

    async def stop(self) -> None:
        """Give up what runs."""
        await asyncio.gather(*(job.stop() for job in self._all.values()))
