"""Several async generators as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeAlias, TypeVar

__all__ = ["merge"]

T = TypeVar("T")
_Queue: TypeAlias = "asyncio.Queue[tuple[T] | Exception | None]"


async def merge(sources: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """Items of all sources in the order in which they come.

    The first exception of any source ends them all. Closing the result closes the sources.
    """
    if len(sources) == 1:
        # The usual case deserves no tasks.
        async with aclosing(sources[0]) as source:
            async for item in source:
                yield item
        return
    queue: _Queue[T] = asyncio.Queue()
    tasks = [asyncio.create_task(_drain(source, queue)) for source in sources]
    try:
        running = len(tasks)
        while running:
            entry = await queue.get()
            if entry is None:
                running -= 1
            elif isinstance(entry, Exception):
                raise entry
            else:
                yield entry[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drain(source: AsyncGenerator[T, None], queue: _Queue[T]) -> None:
    """Move a source's items into the queue, then the error it ended with, or None."""
    try:
        async with aclosing(source):
            async for item in source:
                queue.put_nowait((item,))
    except Exception as error:
        queue.put_nowait(error)
    else:
        queue.put_nowait(None)
