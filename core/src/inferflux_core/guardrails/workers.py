"""Threads for work that takes too long for the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

__all__ = ["Workers"]

ToolT = TypeVar("ToolT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class _Job(Generic[ToolT]):
    work: Callable[[ToolT], Any]
    answer: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Workers(Generic[ToolT]):
    """A few threads, each with a tool of its own that others may not use at the same time.

    A job that has begun cannot be interrupted; whoever is tired of waiting leaves it to itself. The
    threads never keep the process from ending.

    Args:
        make: makes a tool; called in the thread that uses it.
        count: of threads.
    """

    def __init__(self, make: Callable[[], ToolT], count: int) -> None:
        self._make = make
        self._count = count
        self._started = False
        self._jobs: SimpleQueue[_Job[ToolT] | None] = SimpleQueue()

    async def run(self, work: Callable[[ToolT], AnswerT]) -> AnswerT:
        """Do something with a tool; raises what it raises."""
        if not self._started:
            self._started = True
            for _ in range(self._count):
                Thread(target=self._work, name="guardrail", daemon=True).start()
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future(), loop)
        self._jobs.put(job)
        answer: AnswerT = await job.answer
        return answer

    def close(self) -> None:
        """Let the threads end after the jobs that are there."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        tool: ToolT | None = None
        while (job := self._jobs.get()) is not None:
            if job.answer.cancelled():
                continue
            answer, error = None, None
            try:
                # A tool that cannot be made is the failure of a job, not of the thread.
                tool = self._make() if tool is None else tool
                answer = job.work(tool)
            except Exception as failure:
                error = failure
            try:
                job.loop.call_soon_threadsafe(_settle, job.answer, answer, error)
            except RuntimeError:
                return  # the server has ended


def _settle(future: asyncio.Future[Any], answer: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)
