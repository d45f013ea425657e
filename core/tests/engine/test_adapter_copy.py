"""Encrypted adapters on their way to the runner."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from inferflux_core.encrypted_adapters import Keyset, encrypt_file, new_keyset
from inferflux_core.engine.adapters import AdapterRegistry
from inferflux_core.engine.protocol import AdapterUse
from inferflux_core.errors import InvalidRequestError
from inferflux_core.models.folder.adapter import ADAPTER_FILES
from inferflux_core.testing import DeterministicRunner


class WatchingRunner(DeterministicRunner):
    """Keeps what it is told to load, and what lies in the folder for temporary files meanwhile."""

    def __init__(self, temporary: Path) -> None:
        super().__init__()
        self.capabilities = replace(self.capabilities, hosts_adapters=True)
        self.temporary = temporary
        self.loaded: dict[int, bytes] = {}
        self.names: list[str] = []
        self.regular_files: list[Path] = []

    def load_adapter(self, path: Path) -> int:
        self.names.append(path.name)
        self.regular_files += [
            file for file in self.temporary.rglob("*") if file.is_file() and not file.is_symlink()
        ]
        handle = len(self.names)
        self.loaded[handle] = path.read_bytes()
        return handle

    def free_adapter(self, handle: int) -> None:
        del self.loaded[handle]


CONTENT = b"GGUF, and then some"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    path.write_bytes(new_keyset()[0])
    return path


@pytest.fixture
def file(tmp_path: Path, key_file: Path) -> Path:
    plain = tmp_path / "support.gguf"
    plain.write_bytes(CONTENT)
    encrypted = tmp_path / "support.gguf.enc"
    encrypt_file(plain, encrypted, "support", Keyset(key_file), lambda _: None)
    return encrypted


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WatchingRunner:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return WatchingRunner(temporary)


def test_the_runner_gets_plain_text_that_is_in_no_file(
    runner: WatchingRunner, file: Path, key_file: Path
) -> None:
    AdapterRegistry(runner).load("any-name", file, key_file)
    assert runner.loaded == {1: CONTENT}
    assert runner.names == ["support.gguf.enc"]
    assert runner.regular_files == []
    assert not list(runner.temporary.iterdir())


def test_a_plain_adapter_is_still_copied(runner: WatchingRunner, file: Path) -> None:
    AdapterRegistry(runner).load("plain", file.with_name("support.gguf"))
    assert runner.loaded == {1: CONTENT}
    assert [path.name for path in runner.regular_files] == ["support.gguf"]


def test_a_file_says_itself_that_it_is_encrypted(
    runner: WatchingRunner, file: Path, key_file: Path
) -> None:
    """Whatever it is called; what is called encrypted and is not, is refused."""
    encrypted = file.rename(file.with_name("support.gguf"))
    AdapterRegistry(runner).load("support", encrypted, key_file)
    assert runner.loaded == {1: CONTENT}

    plain = file.with_name("other.gguf.enc")
    plain.write_bytes(CONTENT)
    with pytest.raises(InvalidRequestError, match=r"other\.gguf\.enc is not an encrypted adapter"):
        AdapterRegistry(runner).load("other", plain, key_file)


def test_a_file_that_is_encrypted_anew_finds_its_cached_prefixes(
    runner: WatchingRunner, file: Path, key_file: Path, tmp_path: Path
) -> None:
    adapters = AdapterRegistry(runner)
    use = [AdapterUse(name="support")]
    adapters.load("support", file, key_file)
    _, before = adapters.acquire(use)
    again = tmp_path / "again.gguf.enc"
    plain = tmp_path / "support.gguf"
    encrypt_file(plain, again, "again", Keyset(key_file), lambda _: None)
    adapters.load("support", again, key_file)
    _, after = adapters.acquire(use)
    assert before == after


def refused(runner: WatchingRunner, file: Path, key_file: Path | None) -> str:
    with pytest.raises(InvalidRequestError) as error:
        AdapterRegistry(runner).load("support", file, key_file)
    assert not list(runner.temporary.iterdir())
    return error.value.message


def test_what_cannot_be_decrypted_never_reaches_the_runner(
    runner: WatchingRunner, file: Path, key_file: Path, tmp_path: Path
) -> None:
    assert "set `adapters_key_file` of the model" in refused(runner, file, None)
    assert "cannot be read" in refused(runner, file, tmp_path / "none")
    renamed = file.rename(tmp_path / "pirate.gguf.enc")
    assert "encrypted as 'support'" in refused(runner, renamed, key_file)
    renamed.rename(file)
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    assert "altered or cut off" in refused(runner, file, key_file)
    file.write_bytes(data)
    key_file.write_bytes(new_keyset()[0])
    assert "was encrypted with the key" in refused(runner, file, key_file)
    assert runner.names == []


def test_failures_leave_nothing_open(runner: WatchingRunner, file: Path, key_file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")
    adapters = AdapterRegistry(runner)

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    for _ in range(100):
        with pytest.raises(InvalidRequestError):
            adapters.load("support", file, key_file)
    assert open_files() <= before


class FolderRunner(WatchingRunner):
    """Keeps the files of the folder that it is told to load."""

    def load_adapter(self, path: Path) -> int:
        self.names.append(path.name)
        handle = len(self.names)
        self.loaded[handle] = b"|".join(
            file.name.encode() + b":" + file.read_bytes() for file in sorted(path.iterdir())
        )
        return handle


def test_of_a_folder_only_what_matters_is_copied(runner: WatchingRunner, tmp_path: Path) -> None:
    folder = tmp_path / "style"
    folder.mkdir()
    for name in (*ADAPTER_FILES, "README.md"):
        (folder / name).write_text(name[:3])
    watching = FolderRunner(runner.temporary)
    registry = AdapterRegistry(watching)
    registry.load("style", folder)
    assert watching.names == ["style"]
    assert watching.loaded == {
        1: b"adapter_config.json:ada|adapter_model.safetensors:ada",
    }
    assert not list(runner.temporary.iterdir())

    _, before = registry.acquire([AdapterUse(name="style")])
    (folder / ADAPTER_FILES[0]).write_text("other")
    registry.load("style", folder)
    _, after = registry.acquire([AdapterUse(name="style")])
    assert before != after


def test_a_folder_without_an_adapter_is_refused(runner: WatchingRunner, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="is a folder without"):
        AdapterRegistry(runner).load("style", tmp_path)
