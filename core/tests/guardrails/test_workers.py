from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from inferflux_core.guardrails.workers import Workers

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_each_thread_has_a_tool_of_its_own_that_no_other_uses() -> None:
    together = threading.Barrier(2, timeout=10)
    workers = Workers(threading.get_ident, 2)

    def work(tool: int) -> tuple[int, int]:
        together.wait()
        return tool, threading.get_ident()

    seen = await asyncio.gather(workers.run(work), workers.run(work))
    assert all(tool == thread for tool, thread in seen)
    assert len(set(seen)) == 2
    workers.close()


async def test_a_job_raises_what_it_raises_and_the_thread_goes_on() -> None:
    workers = Workers(dict[str, int], 1)
    with pytest.raises(KeyError):
        await workers.run(lambda tool: tool["absent"])
    assert await workers.run(len) == 0
    workers.close()


async def test_a_tool_that_cannot_be_made_fails_the_job() -> None:
    attempts: list[int] = []

    def make() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("not now")
        return "tool"

    workers = Workers(make, 1)
    with pytest.raises(OSError, match="not now"):
        await workers.run(str.upper)
    assert await workers.run(str.upper) == "TOOL"
    workers.close()


async def test_a_job_nobody_waits_for_any_more_is_not_begun() -> None:
    gate, done = threading.Event(), []
    workers = Workers(object, 1)
    first = asyncio.ensure_future(workers.run(lambda _: gate.wait(10)))
    await asyncio.sleep(0)  # lets it take the thread
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await workers.run(lambda _: done.append("late"))
    gate.set()
    assert await first
    assert await workers.run(lambda _: list(done)) == []
    workers.close()


def test_a_job_that_never_ends_does_not_keep_the_process() -> None:
    program = """
import asyncio, threading
from inferflux_core.guardrails.workers import Workers
async def main():
    async with asyncio.timeout(0.05):
        await Workers(object, 1).run(lambda _: threading.Event().wait())
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20)
    assert b"TimeoutError" in ended.stderr
