"""Engines that are started and stopped many times, with real child processes of the stub backend."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from inferflux_core.config.schema import ModelConfig, PluginsConfig, RuntimeConfig
from inferflux_core.engine.async_engine import AsyncEngine, EngineState
from inferflux_core.engine.protocol import Generate, TextPrompt, Tokenize, Tokens
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import EngineUnavailableError, StartupError
from inferflux_core.plugins import PluginManager

Test = Callable[[AsyncEngine], Awaitable[None]]


def new_engine(on_restart: Callable[[], None], chat_template: str | None) -> AsyncEngine:
    backend = PluginManager(strict=False, trace=False).backend("stub")
    model = ModelConfig(name="m", chat_template=chat_template)
    return AsyncEngine(model, backend, RuntimeConfig(), PluginsConfig(), on_restart)


def run(
    test: Test, on_restart: Callable[[], None] = lambda: None, chat_template: str | None = None
) -> None:
    """Run a test with an engine, and see that it leaves no task, child or file behind."""

    async def whole() -> None:
        async with asyncio.timeout(60):
            await asyncio.to_thread(os.getpid)  # the pool's thread has files of its own
            before = files(), children()
            await test(new_engine(on_restart, chat_template))
            await asyncio.sleep(0)
            gc.collect()
            assert (files(), children()) == before
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


def files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children() -> list[str]:
    return Path("/proc/thread-self/children").read_text().split()


async def answer(engine: AsyncEngine) -> str:
    """What the stub says, or how it failed."""
    command = Generate(
        request_id=engine.next_id(),
        prompt=TextPrompt(text="hello"),
        params=SamplingParams(max_tokens=4),
    )
    text = ""
    async for output in engine.generate(command):
        text += output.text
        if output.error is not None:
            return output.error[1]
    return text


def test_an_engine_can_be_started_and_stopped_again_and_again() -> None:
    async def test(engine: AsyncEngine) -> None:
        pids = set()
        for _ in range(3):
            with pytest.raises(EngineUnavailableError, match="stopped"):
                await answer(engine)
            await engine.start()
            assert engine.state is EngineState.READY
            assert engine.pid is not None
            assert engine.memory_bytes is not None
            assert engine.memory_bytes > 2**20
            pids.add(engine.pid)
            assert await answer(engine)
            await engine.stop(0.0)
            assert (engine.state, engine.pid, engine.memory_bytes) == (
                EngineState.STOPPED,
                None,
                None,
            )
        await engine.stop(0.0)
        assert len(pids) == 3

    run(test)


def test_a_start_that_is_given_up_leaves_nothing() -> None:
    async def test(engine: AsyncEngine) -> None:
        for turns in (1, 2, 3, 50):
            start = asyncio.create_task(engine.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
            assert start.cancelled()
            assert engine.state is EngineState.STOPPED
        await engine.start()
        await engine.stop(0.0)

    run(test)


def test_a_start_that_fails_can_be_repeated(tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"

    async def test(engine: AsyncEngine) -> None:
        with pytest.raises(StartupError):
            await engine.start()
        assert engine.state is EngineState.STOPPED
        template.write_text("{{ messages }}")
        await engine.start()
        assert await answer(engine)
        await engine.stop(0.0)

    run(test, chat_template=str(template))


def test_a_process_that_died_is_replaced_and_can_be_stopped_then() -> None:
    restarting = asyncio.Event()

    async def test(engine: AsyncEngine) -> None:
        await engine.start()
        first = engine.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await restarting.wait()
        assert engine.state is EngineState.RESTARTING
        await engine.stop(0.0)  # in the middle of it
        assert engine.state is EngineState.STOPPED
        await engine.start()
        assert engine.pid != first
        await engine.stop(0.0)

    run(test, on_restart=restarting.set)


def test_who_waits_for_an_answer_is_told_why_the_engine_stops() -> None:
    async def test(engine: AsyncEngine) -> None:
        await engine.start()
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGSTOP)  # it will not answer in time
        call = Tokenize(call_id=engine.next_id(), prompt=TextPrompt(text="hello"))
        waiting = [
            asyncio.create_task(answer(engine)),
            asyncio.create_task(_tokens(engine, call)),
        ]
        await asyncio.sleep(0)
        pid = engine.pid
        stopping = asyncio.create_task(engine.stop(0.0, "the model was unloaded"))
        told = await asyncio.gather(*waiting)
        os.kill(pid, signal.SIGCONT)
        await stopping
        assert told == ["the model was unloaded"] * 2

    run(test)


async def _tokens(engine: AsyncEngine, call: Tokenize) -> str:
    try:
        found = await engine.call(call)
    except EngineUnavailableError as error:
        return error.message
    assert isinstance(found, Tokens)
    return str(found.token_ids)
