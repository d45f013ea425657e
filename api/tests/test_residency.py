from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from support.residency import Rig, turns

from inferflux_core.engine.async_engine import EngineState
from inferflux_core.errors import (
    EngineUnavailableError,
    ModelInUseError,
    ModelLoadError,
    StartupError,
)

MISSING = ModelLoadError("model file /secret/a.gguf does not exist", hint="check `model.path`")


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an event loop of its own, and see that it leaves no task behind."""

    async def whole(**fixtures: Any) -> None:
        async with asyncio.timeout(10):
            await test(**fixtures)
            await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def run(tmp_path: Path) -> None:
        asyncio.run(whole(tmp_path=tmp_path) if "tmp_path" in test.__annotations__ else whole())

    run.__name__ = test.__name__
    return run


@on_a_loop
async def test_a_model_is_loaded_once_for_all_who_ask() -> None:
    rig = Rig()
    rig.engine(rig.a).gate.clear()
    clients = [asyncio.create_task(rig.use(rig.a)) for _ in range(5)]
    await turns()
    assert rig.a.state == "loading"
    assert rig.a.waiting == 5

    rig.engine(rig.a).gate.set()
    await asyncio.gather(*clients)

    assert rig.engine(rig.a).log == ["start"]
    assert (rig.a.users, rig.a.waiting, rig.a.state) == (0, 0, "ready")
    assert rig.a.last_used is not None


@on_a_loop
async def test_a_failed_load_is_told_to_all_and_not_repeated_at_once() -> None:
    rig = Rig()
    engine = rig.engine(rig.a)
    engine.error = MISSING
    engine.gate.clear()
    clients = [asyncio.create_task(rig.use(rig.a)) for _ in range(3)]
    await turns()
    engine.gate.set()
    told = [*await asyncio.gather(*clients, return_exceptions=True)]
    with pytest.raises(EngineUnavailableError) as later:
        await rig.use(rig.a)

    assert rig.a.state == "failed"
    assert engine.log == ["start"]
    for error in (*told, later.value):
        assert isinstance(error, EngineUnavailableError)
        assert error.retry_after == pytest.approx(1.0, abs=0.1)
        assert "model 'a' cannot be loaded" in error.message
        assert "/secret" not in error.message


@on_a_loop
async def test_an_operator_hears_why_and_may_try_again_at_once() -> None:
    rig = Rig()
    engine = rig.engine(rig.a)
    engine.error = MISSING
    for _ in range(2):
        with pytest.raises(EngineUnavailableError, match=r"/secret/a\.gguf does not exist; check"):
            await rig.residency.load(rig.a)
    assert rig.a.failure is not None
    assert rig.a.failure.backoff == 2.0

    engine.error = None
    await rig.residency.load(rig.a)
    assert (rig.a.state, rig.a.failure) == ("ready", None)


@on_a_loop
async def test_a_client_that_leaves_ends_only_its_own_waiting() -> None:
    rig = Rig()
    rig.engine(rig.a).gate.clear()
    leaver, stayer = (asyncio.create_task(rig.use(rig.a)) for _ in range(2))
    await turns()
    leaver.cancel()
    await turns()
    assert (rig.a.waiting, rig.a.state) == (1, "loading")

    rig.engine(rig.a).gate.set()
    await stayer
    assert leaver.cancelled()
    assert rig.a.users == 0


@on_a_loop
async def test_a_model_that_nobody_uses_leaves_after_its_time() -> None:
    rig = Rig(idle_ttl=0.05)
    async with rig.residency.lease(rig.a):
        await asyncio.sleep(0.1)
        assert rig.loaded == "a"
        assert rig.a.expires_at is None
    assert rig.a.expires_at is not None
    await rig.engine(rig.a).stopped.wait()
    assert rig.engine(rig.a).log == ["start", "stop"]

    await rig.use(rig.a)  # and comes back when it is asked for
    assert rig.loaded == "a"
    await rig.residency.close(0.0, rig.models)


@on_a_loop
async def test_with_no_time_at_all_it_still_serves_who_waited() -> None:
    rig = Rig(idle_ttl=0.0)
    await asyncio.gather(*(rig.use(rig.a) for _ in range(3)))
    await rig.engine(rig.a).stopped.wait()
    assert rig.engine(rig.a).log == ["start", "stop"]


@on_a_loop
async def test_a_use_starts_the_time_again() -> None:
    rig = Rig(idle_ttl=30.0)
    await rig.use(rig.a)
    before = rig.a.expires_at
    await asyncio.sleep(0.01)
    await rig.use(rig.a)
    assert before is not None
    assert rig.a.expires_at is not None
    assert rig.a.expires_at > before
    await rig.residency.close(0.0, rig.models)


@on_a_loop
async def test_the_longest_unused_goes_first() -> None:
    rig = Rig(budget=250)
    await rig.use(rig.a, rig.b)
    await asyncio.sleep(0.002)
    await rig.use(rig.a)
    await rig.use(rig.c)
    assert rig.loaded == "ac"
    # What it took is known now: it goes before, and not after another was loaded for nothing.
    await rig.use(rig.b)
    assert rig.engine(rig.b).log == ["start", "stop", "start"]
    assert rig.loaded == "bc"


@on_a_loop
async def test_a_model_in_use_never_goes() -> None:
    rig = Rig(budget=150)
    rig.c.known_bytes = 100
    async with rig.residency.lease(rig.a):
        for newcomer in (rig.b, rig.c):
            with pytest.raises(
                EngineUnavailableError, match="try again when they are idle"
            ) as told:
                await rig.use(newcomer)
            assert told.value.retry_after == 1.0
        assert rig.loaded == "a"
    assert rig.engine(rig.a).log == ["start"]
    # It was measured to be too large beside another; one whose size was known was not even tried.
    assert rig.engine(rig.b).log == ["start", "stop"]
    assert rig.engine(rig.c).log == []
    await rig.use(rig.b)
    assert rig.loaded == "b"


@on_a_loop
async def test_what_can_never_fit_is_refused_for_good() -> None:
    rig = Rig(budget=50)
    for _ in range(2):
        with pytest.raises(EngineUnavailableError, match=r"raise `runtime\.memory_budget") as told:
            await rig.use(rig.a)
        assert told.value.retry_after is None
    assert rig.engine(rig.a).log == ["start", "stop"]


@on_a_loop
async def test_a_file_larger_than_the_budget_is_not_even_tried(tmp_path: Path) -> None:
    file = tmp_path / "large.gguf"
    with file.open("wb") as hole:
        hole.truncate(2 * 2**20)
    rig = Rig(budget=2**20, path=str(file))
    with pytest.raises(EngineUnavailableError, match="needs about 770 MiB"):
        await rig.use(rig.a)
    assert rig.engine(rig.a).log == []


@on_a_loop
async def test_an_estimate_makes_room_and_refuses_nothing_that_has_all_memory(
    tmp_path: Path,
) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF")
    rig = Rig(budget=250, path=str(file))
    await rig.use(rig.a)
    await rig.use(rig.b)
    assert rig.loaded == "b"
    await rig.use(rig.a)  # known by now to fit beside it
    assert rig.loaded == "ab"


@on_a_loop
async def test_at_startup_none_goes_for_another() -> None:
    rig = Rig(budget=150)
    rig.residency.evicts = False
    await rig.residency.load_at_startup(rig.a)
    with pytest.raises(StartupError, match="model 'b' needs about"):
        await rig.residency.load_at_startup(rig.b)
    assert rig.loaded == "a"


@on_a_loop
async def test_a_request_may_be_quicker_than_the_start() -> None:
    rig = Rig()
    rig.engine(rig.a).gate.clear()
    client = asyncio.create_task(rig.use(rig.a))
    await turns()
    start = asyncio.create_task(rig.residency.load_at_startup(rig.a))
    await turns()
    rig.engine(rig.a).gate.set()
    await asyncio.gather(client, start)
    assert rig.engine(rig.a).log == ["start"]


@on_a_loop
async def test_unloading_what_is_in_use_is_refused_unless_forced() -> None:
    rig = Rig()
    async with rig.residency.lease(rig.a):
        with pytest.raises(ModelInUseError, match="in use by 1 requests"):
            await rig.residency.unload(rig.a)
        with pytest.raises(ModelInUseError):
            await rig.residency.tune(rig.a)
        assert rig.loaded == "a"
        await rig.residency.unload(rig.a, force=True)
        assert rig.loaded == ""
    await rig.residency.unload(rig.a)
    assert rig.engine(rig.a).log == ["start", "stop"]


@on_a_loop
async def test_draining_waits_for_those_who_use_it_and_newcomers_wait_for_the_next_load() -> None:
    rig = Rig()
    await rig.residency.acquire(rig.a)
    drain = asyncio.create_task(rig.residency.unload(rig.a, drain=True))
    await turns()
    newcomer = asyncio.create_task(rig.use(rig.a))
    await turns()
    assert rig.engine(rig.a).log == ["start"]

    rig.residency.release(rig.a)
    await asyncio.gather(drain, newcomer)
    assert rig.engine(rig.a).log == ["start", "stop", "start"]


@on_a_loop
async def test_tuning_loads_anew() -> None:
    rig = Rig()
    await rig.use(rig.a)
    await rig.residency.tune(rig.a)
    assert rig.engine(rig.a).log == ["start", "stop", "retune"]
    assert rig.a.state == "ready"


@on_a_loop
async def test_closing_ends_a_load_and_tells_who_waits() -> None:
    rig = Rig(idle_ttl=30.0)
    await rig.use(rig.b)
    rig.engine(rig.a).gate.clear()
    client = asyncio.create_task(rig.use(rig.a))
    await turns()
    await rig.residency.close(0.0, rig.models)
    with pytest.raises(EngineUnavailableError, match="shutting down"):
        await client
    with pytest.raises(EngineUnavailableError, match="shutting down"):
        await rig.use(rig.c)
    assert rig.loaded == ""
    assert [rig.engine(model).state for model in rig.models] == [EngineState.STOPPED] * 3


@on_a_loop
async def test_loads_take_turns() -> None:
    rig = Rig()
    rig.engine(rig.a).gate.clear()
    first, second = (asyncio.create_task(rig.use(model)) for model in (rig.a, rig.b))
    await turns()
    assert rig.engine(rig.b).log == []
    rig.engine(rig.a).gate.set()
    await asyncio.gather(first, second)
    assert rig.loaded == "ab"
