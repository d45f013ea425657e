from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from inferflux_api.adapter_files import AdapterFolder, allowed_file, allowed_folders
from inferflux_api.adapters import AdapterRegistry
from inferflux_core.config.schema import AdapterConfig, ModelConfig
from inferflux_core.encrypted_adapters import new_keyset
from inferflux_core.engine.async_engine import AsyncEngine, EngineState
from inferflux_core.engine.protocol import AdapterUse, Answer, Call, Done, LoadAdapter
from inferflux_core.errors import (
    ConfigError,
    EngineUnavailableError,
    InvalidRequestError,
    ModelNotFoundError,
    StartupError,
)
from inferflux_core.models.folder.adapter import ADAPTER_FILES

PATIENCE = 10.0


def content_of(path: Path) -> str:
    return path.read_text() if path.exists() else "bad"


class FakeEngine:
    """An engine process that holds what it is told to; files that say "bad" are refused."""

    def __init__(self, state: EngineState = EngineState.READY) -> None:
        self.state = state
        self.pid = 1
        self.info = SimpleNamespace(hosts_adapters=True)
        self.held: dict[str, str] = {}
        self.num_calls = 0

    def next_id(self) -> int:
        self.num_calls += 1
        return self.num_calls

    async def call(self, call: Call) -> Answer:
        if self.state is not EngineState.READY:
            raise EngineUnavailableError("not now")
        if isinstance(call, LoadAdapter):
            content = content_of(Path(call.path))
            if content == "bad":
                raise InvalidRequestError("it is damaged")
            self.held[call.name] = content
        else:
            del self.held[cast(Any, call).name]
        return Done(call_id=call.call_id)

    def replace_process(self) -> None:
        self.pid += 1
        self.held.clear()


def registry(engine: FakeEngine, folder: Path | None = None, **adapters: Path) -> AdapterRegistry:
    model = ModelConfig(
        name="base",
        adapters=[AdapterConfig(name=name, path=str(path)) for name, path in adapters.items()],
        adapters_folder=None if folder is None else str(folder),
    )
    return AdapterRegistry(model, cast(AsyncEngine, engine), lambda name: name == "base")


def write(path: Path, content: str, age: float = 60.0) -> Path:
    """A file nobody has written to for `age` seconds."""
    path.write_text(content)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def running(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(PATIENCE):
            await test()

    asyncio.run(limited())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - files and fakes set no events
        await asyncio.sleep(0.02)


def test_a_file_is_complete_once_it_has_stopped_changing(tmp_path: Path) -> None:
    folder = AdapterFolder(tmp_path)
    file = write(tmp_path / "a.gguf", "half", age=0)
    write(tmp_path / "a.gguf.part", "other", age=60)
    old = write(tmp_path / "old.gguf", "old")
    (tmp_path / "folder.gguf").mkdir()
    first = folder.scan()
    file.write_text("half and half")
    second = folder.scan()
    third = folder.scan()

    assert first.keys() == {file, old}
    assert first[file] is second[file] is None
    assert third[file] is not None
    assert first[old] == third[old] is not None


def saved_by_peft(folder: Path, age: float) -> Path:
    folder.mkdir(parents=True)
    for name in ADAPTER_FILES:
        write(folder / name, "x", age=age)
    return folder


def test_folders_that_peft_saved_are_adapters(tmp_path: Path) -> None:
    folder = AdapterFolder(tmp_path)
    style = saved_by_peft(tmp_path / "style", 60)
    (saved_by_peft(tmp_path / "half", 60) / ADAPTER_FILES[0]).unlink()
    linked = saved_by_peft(tmp_path / "linked", 60) / ADAPTER_FILES[1]
    linked.unlink()
    linked.symlink_to(style / ADAPTER_FILES[1])
    first = folder.scan()
    write(style / ADAPTER_FILES[1], "xx", age=30)
    second = folder.scan()

    assert first.keys() == second.keys() == {style}
    assert None not in (first[style], second[style])
    assert first[style] != second[style]

    assert allowed_file("style", [tmp_path]) == style
    for name in ("half", "linked"):
        with pytest.raises(InvalidRequestError, match="is not a regular file"):
            allowed_file(name, [tmp_path])


def test_where_adapters_may_come_from(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        write(folder / "a.gguf", "x")
    (mine / "link.gguf").symlink_to(other / "a.gguf")
    configured = ModelConfig(
        path=str(other / "a.gguf"), adapters=[AdapterConfig(name="a", path=str(mine / "a.gguf"))]
    )
    assert allowed_folders(configured) == [mine, other]
    assert allowed_folders(ModelConfig(adapters_folder=str(mine), path="pkg://no/such")) == [mine]

    assert allowed_file("a.gguf", [mine]) == mine / "a.gguf"
    for outside in (str(other / "a.gguf"), "../other/a.gguf", "link.gguf", "/etc/passwd"):
        with pytest.raises(InvalidRequestError, match="loaded from"):
            allowed_file(outside, [mine])
    with pytest.raises(InvalidRequestError, match="set `adapters_folder`"):
        allowed_file("a.gguf", [])


def test_adapters_of_a_model_that_is_not_loaded_are_loaded_when_they_are_asked_for(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        engine = FakeEngine(EngineState.STOPPED)
        one = write(tmp_path / "one.bin", "1")
        write(tmp_path / "two.gguf", "2")
        adapters = registry(engine, tmp_path, one=one)
        await adapters.start()
        assert [adapter.name for adapter in adapters] == ["one", "two"]
        assert engine.held == {}
        engine.state = EngineState.READY
        await adapters.ensure([AdapterUse(name="two")])
        assert engine.held["two"] == "2"
        with pytest.raises(ModelNotFoundError, match="no adapter 'three'"):
            await adapters.ensure([AdapterUse(name="three")])
        await adapters.stop()

    running(test)


def test_a_new_process_gets_what_the_old_one_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        engine = FakeEngine()
        kept, gone = write(tmp_path / "kept", "k"), write(tmp_path / "gone", "g")
        adapters = registry(engine, kept=kept, gone=gone)
        await adapters.start()
        gone.unlink()
        engine.replace_process()
        with caplog.at_level(logging.ERROR, "inferflux.adapters"):
            await until(lambda: engine.held == {"kept": "k"} and bool(caplog.records))
            calls = engine.num_calls
            with pytest.raises(EngineUnavailableError, match="'gone' could not be loaded again"):
                await adapters.ensure([AdapterUse(name="gone")])
            # The keeper has had its one try.
            await asyncio.sleep(0.6)
        assert engine.num_calls == calls + 1
        assert len(caplog.records) == 1
        write(gone, "back")
        await adapters.ensure([AdapterUse(name="gone")])
        assert engine.held == {"kept": "k", "gone": "back"}
        await adapters.stop()

    running(test)


def test_what_was_unloaded_stays_away_until_its_file_changes(tmp_path: Path) -> None:
    async def test() -> None:
        engine = FakeEngine()
        file = write(tmp_path / "a.gguf", "1")
        marker = tmp_path / "marker.gguf"
        adapters = registry(engine, tmp_path)
        await adapters.start()
        await adapters.unload("a")
        write(marker, "m")
        await until(lambda: "marker" in engine.held)
        assert "a" not in engine.held
        write(file, "second")
        await until(lambda: engine.held.get("a") == "second")
        file.unlink()
        await until(lambda: adapters.get("a") is None and "a" not in engine.held)
        await adapters.stop()

    running(test)


def test_a_name_is_given_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        engine = FakeEngine()
        folder = tmp_path / "folder"
        folder.mkdir()
        adapters = registry(engine, folder, one=write(tmp_path / "one", "mine"))
        for name in ("one", "base", "bad name"):
            write(folder / f"{name}.gguf", "other")
        await adapters.start()
        assert engine.held == {"one": "mine"}
        assert len([r for r in caplog.records if "is not served" in r.message]) == 3
        await adapters.stop()

    running(test)


@pytest.mark.parametrize("name", ["base", "", "a b", "-x"])
def test_configured_names_are_checked(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="adapters of model 'base'"):
        registry(FakeEngine(), **{name: tmp_path / "a"})


def test_a_configured_adapter_that_cannot_be_loaded_stops_the_start(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(StartupError, match="adapter 'a' of model 'base': it is damaged"):
            await registry(FakeEngine(), a=write(tmp_path / "a", "bad")).start()
        with pytest.raises(StartupError, match="is not a folder"):
            await registry(FakeEngine(), tmp_path / "none").start()

    running(test)


class LockedEngine(FakeEngine):
    """An engine that reads what a file says only if the key file says so too."""

    async def call(self, call: Call) -> Answer:
        if isinstance(call, LoadAdapter):
            assert call.key_file is not None
            if content_of(Path(call.path)) not in content_of(Path(call.key_file)):
                raise InvalidRequestError("it was encrypted with another key")
        return await super().call(call)


def with_keys(engine: FakeEngine, folder: Path, key_file: Path) -> AdapterRegistry:
    model = ModelConfig(name="base", adapters_folder=str(folder), adapters_key_file=str(key_file))
    return AdapterRegistry(model, cast(AsyncEngine, engine), lambda name: name == "base")


def put_keys(path: Path) -> str:
    """Put new keys into a file; returns the number of the one that encrypts."""
    content, key_id = new_keyset()
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)
    return str(key_id)


def test_encrypted_files_are_called_without_their_endings(tmp_path: Path) -> None:
    async def test() -> None:
        engine = LockedEngine()
        folder = tmp_path / "folder"
        folder.mkdir()
        write(folder / "a.v1.gguf.enc", put_keys(tmp_path / "keys"))
        adapters = with_keys(engine, folder, tmp_path / "keys")
        await adapters.start()
        assert [adapter.name for adapter in adapters] == ["a.v1"]
        await adapters.stop()

    running(test)


def test_what_was_refused_is_tried_again_with_new_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        engine = LockedEngine()
        folder, keys, later = tmp_path / "folder", tmp_path / "keys", tmp_path / "later"
        folder.mkdir()
        write(folder / "a.gguf.enc", put_keys(keys))
        write(folder / "b.gguf.enc", put_keys(later))
        adapters = with_keys(engine, folder, keys)
        await adapters.start()
        assert engine.held.keys() == {"a"}
        await adapters.unload("a")

        later.replace(keys)
        await until(lambda: "b" in engine.held)
        # An adapter that somebody has unloaded stays away.
        assert engine.held.keys() == {"b"}
        await adapters.stop()

    with caplog.at_level(logging.ERROR):
        running(test)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "b.gguf.enc in adapters_folder is not served"
    ]


def test_a_server_without_its_keys_does_not_start(tmp_path: Path) -> None:
    adapters = with_keys(FakeEngine(), tmp_path, tmp_path / "none")
    with pytest.raises(StartupError, match="none cannot be read"):
        asyncio.run(adapters.start())
