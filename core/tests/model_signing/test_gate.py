"""What an engine may load, with real child processes of the stub backend."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferflux_core.config.schema import (
    ModelConfig,
    ModelSigningConfig,
    PluginsConfig,
    RuntimeConfig,
    SpeculativeDecodingConfig,
)
from inferflux_core.encrypted_adapters import Keyset, encrypt_file, new_keyset
from inferflux_core.engine import assembly
from inferflux_core.engine.async_engine import AsyncEngine, EngineState
from inferflux_core.engine.protocol import CallFailed, Done, LoadAdapter, LoadModel
from inferflux_core.errors import ConfigError, InvalidRequestError, ModelLoadError
from inferflux_core.model_signing import Admission, SignatureGate, SigningRules, adapter_check
from inferflux_core.model_signing.keys import SigningKey
from inferflux_core.model_signing.signing import sign_model
from inferflux_core.plugins import PluginManager
from inferflux_core.testing import DeterministicRunner

KEY = SigningKey.new("p256")


def sign(path: Path) -> Path:
    return sign_model(path, KEY, None, (), lambda total: lambda count: None)[0]


@pytest.fixture
def config(tmp_path: Path) -> ModelSigningConfig:
    public = tmp_path / "key.pub"
    public.write_bytes(KEY.public_pem)
    return ModelSigningConfig(mode="enforce", public_keys=[str(public)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    sign(path)
    return path


def engine(
    config: ModelSigningConfig,
    path: Path,
    runtime: RuntimeConfig | None = None,
    **fields: Any,
) -> AsyncEngine:
    backend = PluginManager(strict=False, trace=False).backend("stub")
    model = ModelConfig(name="m", path=str(path), **fields)
    gate = SignatureGate(config)
    return AsyncEngine(model, backend, runtime or RuntimeConfig(), PluginsConfig(), gate=gate)


def serve(engine: AsyncEngine, test: Callable[[], Awaitable[None]] | None = None) -> None:
    """Start an engine, run a test, and see that no process is left."""

    async def whole() -> None:
        async with asyncio.timeout(60):
            try:
                await engine.start()
                if test is not None:
                    await test()
            finally:
                await engine.stop(1)
                assert not children()

    asyncio.run(whole())


def admit(
    config: ModelSigningConfig, path: Path, runtime: RuntimeConfig | None = None, **fields: Any
) -> Admission:
    """What the gate says of a model, without an engine."""
    model = ModelConfig(path=str(path), **fields)
    return asyncio.run(SignatureGate(config).admit(model, runtime or RuntimeConfig()))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 (it is another process that goes on)
        await asyncio.sleep(0.01)


def children() -> list[str]:
    """Engines that this test has started; others may have left helpers that live as long as they do."""
    pids = Path("/proc/thread-self/children").read_text().split()
    return [pid for pid in pids if b"engine.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


# ------------------------------------------------------------------------- modes


def test_a_signed_model_is_loaded(config: ModelSigningConfig, file: Path) -> None:
    loaded = engine(config, file)
    serve(loaded)
    (report,) = loaded.info.signatures
    assert (report.file, report.key_id, report.problem) == ("m.gguf", KEY.key_id, None)


def test_enforce_refuses_what_was_altered(config: ModelSigningConfig, file: Path) -> None:
    file.write_bytes(b"GGUG")
    with pytest.raises(ModelLoadError, match=r"m\.gguf is not what was signed"):
        serve(engine(config, file))


def test_warn_says_so_and_loads(
    config: ModelSigningConfig, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(b"GGUG")
    admission = admit(msgspec.structs.replace(config, mode="warn"), file)
    admission.confirm()
    (report,) = admission.reports
    assert report.key_id is None
    assert "is not what was signed" in (report.problem or "")
    assert "loaded all the same" in caplog.text


def test_off_looks_at_nothing(file: Path) -> None:
    file.with_name("m.gguf.sig").write_text("nonsense")
    assert admit(ModelSigningConfig(), file).reports == ()


def test_a_failing_check_is_no_pass(
    config: ModelSigningConfig, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("inferflux_core.model_signing.gate.verify_model", broken)
    with pytest.raises(ModelLoadError, match="cannot be checked: ZeroDivisionError"):
        serve(engine(config, file))


def test_the_signature_may_lie_elsewhere(config: ModelSigningConfig, file: Path) -> None:
    elsewhere = file.with_name("elsewhere")
    file.with_name("m.gguf.sig").rename(elsewhere)
    with pytest.raises(ModelLoadError, match="is not signed"):
        serve(engine(config, file))
    assert admit(config, file, signature=str(elsewhere)).reports[0].key_id == KEY.key_id


def test_draft_models_pass_the_same_gate(config: ModelSigningConfig, file: Path) -> None:
    draft = file.with_name("draft.gguf")
    draft.write_bytes(b"GGUF")
    drafting = SpeculativeDecodingConfig(enabled=True, draft_model=str(draft))
    runtime = RuntimeConfig(speculative_decoding=drafting)
    with pytest.raises(ModelLoadError, match=r"draft\.gguf is not signed"):
        serve(engine(config, file, runtime))

    sign(draft)
    reports = admit(config, file, runtime).reports
    assert [report.file for report in reports] == ["m.gguf", "draft.gguf"]


# ------------------------------------------------------------------------- in the course of time


def test_a_file_that_is_swapped_while_it_is_loaded(config: ModelSigningConfig, file: Path) -> None:
    """The child waits for its template, and meanwhile the file it has verified is another."""
    template = file.with_name("template")
    os.mkfifo(template)
    loading = engine(config, file, chat_template=str(template))

    def swap() -> None:
        # Opening waits until the child reads, so that the gate is behind it.
        with template.open("w") as pipe:
            other = file.with_name("other")
            other.write_bytes(b"evil")
            other.replace(file)
            pipe.write("{{ messages[0].content }}")

    async def whole() -> None:
        async with asyncio.timeout(60):
            swapping = asyncio.create_task(asyncio.to_thread(swap))
            try:
                await loading.start()
            finally:
                await swapping
                await loading.stop(1)
                assert not children()

    with pytest.raises(ModelLoadError, match="changed while it was loaded"):
        asyncio.run(whole())


def test_a_warning_about_a_file_that_was_swapped(
    config: ModelSigningConfig, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admission = admit(msgspec.structs.replace(config, mode="warn"), file)
    file.write_bytes(b"evil")
    admission.confirm()
    assert "changed while it was loaded" in caplog.text


def test_after_a_crash_only_what_changed_is_read_again(
    config: ModelSigningConfig, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "inferflux.signing")
    running = engine(config, file)

    async def test() -> None:
        first = running.pid
        os.kill(first or 0, signal.SIGKILL)
        await until(lambda: running.pid not in (first, None))
        assert caplog.text.count("is signed with the key") == 1
        os.utime(file)
        os.kill(running.pid or 0, signal.SIGKILL)
        await until(lambda: caplog.text.count("is signed with the key") == 2)
        await until(lambda: running.state is EngineState.READY)
        os.truncate(file, 2)
        os.kill(running.pid or 0, signal.SIGKILL)
        await until(lambda: "restart failed" in caplog.text)
        assert "is not what was signed" in caplog.text

    serve(running, test)


def test_a_large_file_holds_up_nobody_and_can_be_given_up(
    config: ModelSigningConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "inferflux.signing")
    large = tmp_path / "large.gguf"
    large.touch()
    sign(large)
    os.truncate(large, 1 << 36)

    async def whole() -> int:
        model = ModelConfig(path=str(large))
        admitting = asyncio.create_task(SignatureGate(config).admit(model, RuntimeConfig()))
        turns = 0
        while "verifying the signature of large.gguf, 68.7 GB" not in caplog.text or turns < 20:
            await asyncio.sleep(0.001)
            turns += 1
        assert not admitting.done()
        admitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await admitting
        return turns

    started = time.monotonic()
    # It waits for its threads.
    assert asyncio.run(whole()) >= 20
    assert time.monotonic() - started < 20


# ------------------------------------------------------------------------- adapters


class Host(DeterministicRunner):
    """Keeps what it is told to load."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = replace(self.capabilities, hosts_adapters=True)
        self.loaded: list[bytes] = []

    def load_adapter(self, path: Path) -> int:
        self.loaded.append(path.read_bytes())
        return len(self.loaded)

    def free_adapter(self, handle: int) -> None:
        raise NotImplementedError


def test_an_engine_loads_signed_adapters_only(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    monkeypatch.setattr(assembly, "_load", lambda plugins, command: host)
    command = LoadModel(
        model=ModelConfig(name="m"),
        backend="stub",
        runtime=RuntimeConfig(),
        plugins=PluginsConfig(),
        signing=SigningRules("enforce", (KEY.public_pem.decode(),)),
    )
    calls = assembly.assemble(command).calls
    unsigned = file.with_name("unsigned.gguf")
    unsigned.write_bytes(b"GGUF too")
    refused = calls.answer(LoadAdapter(call_id=1, name="a", path=str(unsigned)))
    assert isinstance(refused, CallFailed)
    assert "unsigned.gguf is not signed" in refused.message
    assert calls.answer(LoadAdapter(call_id=2, name="b", path=str(file))) == Done(call_id=2)
    assert host.loaded == [b"GGUF"]


def check(mode: str) -> Callable[[Path, Path], None]:
    pem = KEY.public_pem.decode()
    return adapter_check(SigningRules(mode, (pem,)))  # type: ignore[arg-type]


def test_adapters_are_checked_by_their_copies(tmp_path: Path, file: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    check("enforce")(copy, file)
    copy.write_bytes(b"evil")
    with pytest.raises(InvalidRequestError, match="is not what was signed") as caught:
        check("enforce")(copy, file)
    assert caught.value.param == "lora_path"
    check("off")(copy, file)


def test_adapters_without_signature(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.with_name("m.gguf.sig").unlink()
    with pytest.raises(InvalidRequestError, match=r"m\.gguf is not signed"):
        check("enforce")(file, file)
    check("warn")(file, file)
    assert "m.gguf is not signed" in caplog.text


def test_a_folder_of_adapters_has_one_signature(tmp_path: Path, file: Path) -> None:
    file.with_name("m.gguf.sig").unlink()
    (tmp_path / "one.gguf").write_text("one")
    sign(tmp_path)
    check("enforce")(file, file)
    (tmp_path / "two.gguf").write_text("two")
    with pytest.raises(InvalidRequestError, match=r"two\.gguf is not signed: model\.sig does not"):
        check("enforce")(tmp_path / "two.gguf", tmp_path / "two.gguf")


def test_of_an_encrypted_adapter_the_content_is_signed(tmp_path: Path, file: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.touch(mode=0o600)
    keys.write_bytes(new_keyset()[0])
    encrypted = tmp_path / "m.gguf.enc"
    encrypt_file(file, encrypted, "m", Keyset(keys), lambda count: None)
    check("enforce")(file, encrypted)
    with pytest.raises(InvalidRequestError, match="is not what was signed"):
        check("enforce")(keys, encrypted)


# ------------------------------------------------------------------------- the start


def test_keys_have_to_be_there_from_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        SignatureGate(ModelSigningConfig(mode="warn", public_keys=[str(tmp_path / "none")]))


@pytest.mark.parametrize("mode", ["warn", "enforce"])
def test_without_the_library_nothing_starts(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inferflux_core.model_signing.keys", None)
    SignatureGate(ModelSigningConfig())
    with pytest.raises(ConfigError, match="need `cryptography`") as caught:
        SignatureGate(ModelSigningConfig(mode=mode, public_keys=["k"]))  # type: ignore[arg-type]
    assert caught.value.hint == "pip install 'inferflux-core[signing]'"
    with pytest.raises(ConfigError, match="need `cryptography`"):
        adapter_check(SigningRules(mode))  # type: ignore[arg-type]
