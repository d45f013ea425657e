"""Ending what runs under an id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from inferflux_api.generation import Delta
from inferflux_api.grpc.vllm.running import Abortable, Running
from inferflux_core.auth import Principal
from inferflux_core.errors import InvalidRequestError

ALICE = Principal("alice", frozenset({"generate"}), "acme")
BOB = Principal("bob", frozenset({"generate"}), "acme")


class Endless:
    """A generation of one delta, after which nothing comes any more."""

    def __init__(self) -> None:
        self.waits = asyncio.Event()
        self.ended = False

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        try:
            yield Delta(0, "a")
            self.waits.set()
            await asyncio.Event().wait()
        finally:
            self.ended = True


def test_an_abort_ends_the_wait_for_more() -> None:
    async def scenario() -> tuple[list[str], bool]:
        running, generation = Running(), Endless()

        async def read() -> list[str]:
            source: Any = generation
            with running.track(ALICE, "r") as abortable:
                return [delta.text async for delta in abortable.deltas(source)]

        reading = asyncio.create_task(read())
        await generation.waits.wait()
        running.abort(BOB, ["r"])
        running.abort(ALICE, ["other", ""])
        await asyncio.sleep(0)
        assert not reading.done()
        running.abort(ALICE, ["r"])
        return await reading, generation.ended

    assert asyncio.run(scenario()) == (["a"], True)


def test_an_abort_ends_what_has_not_begun() -> None:
    async def scenario() -> object:
        abortable = Abortable()
        asyncio.get_running_loop().call_soon(abortable.abort)
        return await abortable.wait(asyncio.Event().wait())

    assert asyncio.run(scenario()) is None


def test_another_timeout_is_not_an_abort() -> None:
    async def late() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        asyncio.run(Abortable().wait(late()))


def test_an_id_is_used_once_at_a_time() -> None:
    running = Running()
    with running.track(ALICE, "r"), running.track(BOB, "r"), running.track(ALICE, ""):
        with running.track(ALICE, ""):
            pass
        with (
            pytest.raises(InvalidRequestError, match="runs already"),
            running.track(ALICE, "r"),
        ):
            pass
        with (
            pytest.raises(InvalidRequestError, match="runs already"),
            running.track(ALICE, "r"),
        ):
            pytest.fail("the first refusal must not free the id")
    with running.track(ALICE, "r"):
        pass
