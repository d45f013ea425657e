"""The policy store in a file: safe to use or refused, whole after any crash, with a history."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from inferflux_api.governance.policy.changes import Editor, NewKey
from inferflux_api.governance.policy.document import Change, Policy, decode_policy, new_policy
from inferflux_api.governance.policy.storages.files import FileStorage
from inferflux_api.governance.policy.storages.storage import StorageError
from inferflux_api.governance.policy.store import (
    NEXT_PASSPHRASE,
    PASSPHRASE,
    PolicyChangedError,
    PolicyStore,
    Snapshot,
    StoreUnavailableError,
)
from inferflux_core.config.schema import RateLimitConfig
from inferflux_core.errors import ConfigError

SECRET = "correct horse battery staple"
NEXT = "incorrect zebra battery staple"
CHANGE = Change(at=1.5, by="a test", what="try")
EDITOR = Editor()


def store_at(
    path: Path, passphrase: str | None = None, following: str | None = None
) -> PolicyStore:
    return PolicyStore(FileStorage(path), passphrase, following)


def begin(store: PolicyStore, policy: Policy | None = None) -> Snapshot:
    return store.commit(None, policy or new_policy(), CHANGE)


def present(store: PolicyStore) -> Snapshot:
    snapshot = store.load()
    assert snapshot is not None
    return snapshot


def with_key(policy: Policy, name: str) -> Policy:
    return EDITOR.add_key(policy, NewKey(name=name, scopes=["admin"]))[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.bin"


@pytest.fixture
def plain(path: Path) -> PolicyStore:
    """A readable store, not created yet."""
    return store_at(path)


@pytest.fixture(scope="module")
def sealed_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sealed") / "policy.bin"
    begin(store_at(path, SECRET), with_key(new_policy(), "ops"))
    return path.read_bytes()


def with_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def refused(path: Path, passphrase: str | None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        store_at(path, passphrase).load()
    return caught.value


# ------------------------------------------------------------------------------------ contents


@pytest.mark.parametrize("passphrase", [None, SECRET])
def test_what_is_written_is_read(path: Path, passphrase: str | None) -> None:
    policy, _, key = EDITOR.add_key(
        new_policy(RateLimitConfig(requests_per_minute=5), ["b"]),
        NewKey(name="ops", scopes=["admin"], tenant="acme"),
    )
    written = begin(store_at(path, passphrase), policy)
    assert written.policy.generation == 1
    assert store_at(path, passphrase).load() == written
    content = path.read_bytes()
    assert key.encode() not in content
    assert key.rpartition("_")[2].encode() not in content
    assert (b"acme" in content) is (passphrase is None)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_representation_shows_no_secret() -> None:
    policy, key, credential = EDITOR.add_key(new_policy(), NewKey(name="ops", scopes=["admin"]))
    shown = f"{policy!r} {policy.api_keys!r}"
    assert repr(policy.pepper) not in shown
    assert repr(key.digest) not in shown
    assert credential not in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "unknown version"),
        ({"version": None}, "unknown version"),
        ({"pepper": None}, "pepper"),
        ({"pepper": "c2hvcnQ="}, "pepper"),
        ({"generation": 0}, "generation"),
        ({"store": "here"}, "store"),
        ({"key": 1}, "unknown key"),
        ({"rate_limit": {"requests_per_minute": 0}}, r"rate_limit\.requests_per_minute"),
        ({"guardrails": {"blocklist": "word"}}, r"guardrails\.blocklist"),
        ({"api_keys": [{"id": "x"}]}, r"api_keys\[0\]"),
    ],
)
def test_a_readable_store_is_checked(
    plain: PolicyStore, path: Path, change: dict[str, Any], message: str
) -> None:
    begin(plain)
    with_bytes(path, json.dumps(json.loads(path.read_bytes()) | change).encode())
    with pytest.raises(ConfigError, match=message) as caught:
        plain.load()
    assert str(path) in caught.value.message


@pytest.mark.parametrize("same", ["id", "name"])
def test_two_keys_are_told_apart(same: str) -> None:
    policy = with_key(with_key(replace(new_policy(), generation=1), "one"), "two")
    tree = json.loads(msgspec.json.encode(policy))
    tree["api_keys"][1][same] = tree["api_keys"][0][same]
    with pytest.raises(ConfigError, match=f"same {same}"):
        decode_policy(json.dumps(tree).encode())


# ------------------------------------------------------------------------------------ refusals


def test_a_short_passphrase_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="shorter than 16") as caught:
        store_at(path, "fifteen letters")
    assert "fifteen letters" not in str(caught.value)


def test_seal_and_passphrase_go_together(path: Path, sealed_bytes: bytes) -> None:
    error = refused(with_bytes(path, sealed_bytes), None)
    assert "is sealed" in error.message
    assert PASSPHRASE in (error.hint or "")
    path.unlink()
    begin(store_at(path))
    assert "is not sealed" in refused(path, SECRET).message


def test_a_wrong_passphrase_is_told_from_damage(path: Path, sealed_bytes: bytes) -> None:
    error = refused(with_bytes(path, sealed_bytes), SECRET + "!")
    assert "another passphrase" in error.message
    assert PASSPHRASE in (error.hint or "")


@pytest.mark.parametrize("place", [0, 1, 4, 8, 40, 150, 230, 300, 400, -40, -1])
def test_a_damaged_file_is_refused(path: Path, sealed_bytes: bytes, place: int) -> None:
    damaged = bytearray(sealed_bytes)
    damaged[place] ^= 0x10
    message = refused(with_bytes(path, bytes(damaged)), SECRET).message
    assert "version" in message if place == 4 else "damaged" in message


@pytest.mark.parametrize("size", [0, 1, 4, 5, 9, 100, -33, -32, -1])
def test_a_truncated_file_is_refused(path: Path, sealed_bytes: bytes, size: int) -> None:
    error = refused(with_bytes(path, sealed_bytes[:size]), SECRET)
    assert "passphrase" not in error.message
    assert error.hint


def a_directory(path: Path) -> None:
    path.mkdir()


def a_fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def a_link(path: Path) -> None:
    begin(store_at(path.with_name("real")))
    path.symlink_to("real")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def readable_by(mode: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        begin(store_at(path))
        path.chmod(mode)

    return make


def an_open_folder(path: Path) -> None:
    begin(store_at(path))
    path.parent.chmod(0o777)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_directory, "directory"),
        (a_fifo, "not a regular file"),
        (a_link, "symbolic link"),
        (a_dangling_link, "symbolic link"),
        (readable_by(0o640), "other accounts"),
        (readable_by(0o604), "other accounts"),
        (readable_by(0o620), "other accounts"),
        (an_open_folder, "every account can change"),
    ],
)
def test_an_unsafe_file_is_neither_read_nor_replaced(
    path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(path)
    assert message in refused(path, None).message.lower()
    with pytest.raises(ConfigError):
        begin(store_at(path))


# ------------------------------------------------------------------------------------ writing


def test_nothing_is_lost_when_two_people_write(plain: PolicyStore) -> None:
    first = begin(plain)
    plain.commit(first, with_key(first.policy, "mine"), CHANGE)
    with pytest.raises(PolicyChangedError, match="meanwhile"):
        plain.commit(first, with_key(first.policy, "yours"), CHANGE)
    assert [key.name for key in present(plain).policy.api_keys] == ["mine"]


def test_a_new_store_replaces_none(plain: PolicyStore, path: Path) -> None:
    begin(plain)
    with pytest.raises(PolicyChangedError, match="exists already"):
        begin(plain)
    with_bytes(path, b"\0" * 100)
    with pytest.raises(PolicyChangedError, match="exists already"):
        begin(plain)
    assert path.read_bytes() == b"\0" * 100


def test_a_wrong_passphrase_overwrites_nothing(path: Path) -> None:
    snapshot = begin(store_at(path, SECRET))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another passphrase"):
        store_at(path, SECRET + "!").commit(snapshot, snapshot.policy, CHANGE)
    assert path.read_bytes() == before


def test_what_could_not_be_read_back_is_not_written(plain: PolicyStore, path: Path) -> None:
    with pytest.raises(ConfigError, match=r"api_keys\[0\]\.name"):
        begin(plain, with_key(new_policy(), "one\x1b[31m"))
    assert not path.exists()


class FakeOs:
    """Functions of `os` of which the n-th call goes wrong, and all later ones if it is a crash."""

    NAMES = ("open", "close", "stat", "lstat", "fstat", "fsync", "replace", "unlink")

    def __init__(self, failing: int, fail: Callable[[], None], *, late: bool) -> None:
        self.calls: list[str] = []
        self._failing = failing
        self._fail = fail
        self._late = late

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in self.NAMES:
            patch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            due = len(self.calls) == self._failing
            if due and not self._late:
                self._fail()
            try:
                return real(*args, **kwargs)
            finally:
                if due and self._late:
                    self._fail()

        return call


def input_output_error() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def power_off() -> None:
    os._exit(17)


def commit_with(
    store: PolicyStore, before: Snapshot, policy: Policy, layer: FakeOs
) -> ConfigError | None:
    with pytest.MonkeyPatch.context() as patch:
        layer.install(patch)
        try:
            store.commit(before, policy, CHANGE)
        except ConfigError as error:
            return error
    return None


def prepared(store: PolicyStore, path: Path) -> tuple[Snapshot, Policy, int]:
    """An old policy, in place; a new one to commit; the number of system calls that takes."""
    old = begin(store)
    counter = FakeOs(0, input_output_error, late=False)
    rehearsal = store_at(path.with_name("rehearsal"))
    assert commit_with(rehearsal, begin(rehearsal), new_policy(), counter) is None
    # First what is superseded and then what supersedes it: on the disk before it gets its name, and the
    # name before the change is reported.
    steps = [c for c in counter.calls if c in ("fsync", "replace")]
    assert steps == ["fsync", "replace", "fsync"] * 2
    return old, with_key(old.policy, "new"), len(counter.calls)


def as_before(path: Path, content: bytes) -> None:
    with_bytes(path, content)
    shutil.rmtree(f"{path}.history", ignore_errors=True)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_an_error_in_any_call_leaves_the_old_policy_or_the_new(
    plain: PolicyStore, path: Path, late: bool
) -> None:
    old, new, calls = prepared(plain, path)
    original = path.read_bytes()
    outcomes = set()
    for failing in range(1, calls + 1):
        as_before(path, original)
        error = commit_with(plain, old, new, FakeOs(failing, input_output_error, late=late))
        found = present(plain).policy
        assert found in (old.policy, replace(new, generation=2, change=CHANGE))
        if error is None:
            assert found.generation == 2, "what was acknowledged is lost"
        outcomes.add((error is None, found.generation))
        assert not Path(f"{path}.tmp").exists()
    assert (False, 1) in outcomes
    # And the store goes on working.
    as_before(path, original)
    assert plain.commit(old, new, CHANGE) == plain.load()


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_crash_in_any_call_leaves_the_old_policy_or_the_new(
    plain: PolicyStore, path: Path, late: bool
) -> None:
    old, new, calls = prepared(plain, path)
    original = path.read_bytes()
    generations = set()
    for failing in range(1, calls + 1):
        as_before(path, original)
        child = os.fork()
        if child == 0:
            commit_with(plain, old, new, FakeOs(failing, power_off, late=late))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
        found = present(plain)
        assert found.policy in (old.policy, replace(new, generation=2, change=CHANGE))
        generations.add(found.policy.generation)
        # The next change succeeds, over whatever the crash left.
        plain.commit(found, found.policy, CHANGE)
        assert not Path(f"{path}.tmp").exists()
    assert generations == {1, 2}


def test_a_full_disk_leaves_the_old_policy(plain: PolicyStore, path: Path) -> None:
    old = begin(plain)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(StoreUnavailableError, match="cannot be written: File too large"):
            plain.commit(old, with_key(old.policy, "new"), CHANGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert not Path(f"{path}.tmp").exists()
    plain.commit(old, with_key(old.policy, "new"), CHANGE)


# ------------------------------------------------------------------------------------ history


@pytest.mark.parametrize("passphrase", [None, SECRET])
def test_what_is_superseded_is_kept(path: Path, passphrase: str | None) -> None:
    store = store_at(path, passphrase)
    snapshot = begin(store)
    for name in ("a", "b", "c"):
        snapshot = store.commit(snapshot, with_key(snapshot.policy, name), CHANGE)
    assert store.generations() == [3, 2, 1]
    third = store.generation(3)
    assert third is not None
    assert [key.name for key in third.api_keys] == ["a", "b"]
    assert store.generation(4) is None


def test_an_older_copy_is_not_accepted(plain: PolicyStore, path: Path) -> None:
    first = begin(plain)
    old = path.read_bytes()
    second = plain.commit(first, first.policy, CHANGE)
    plain.commit(second, second.policy, CHANGE)
    with_bytes(path, old)
    with pytest.raises(ConfigError, match="is generation 1, but there was a generation 2"):
        plain.load()


def test_a_store_that_lost_its_file_is_not_begun_anew(plain: PolicyStore, path: Path) -> None:
    first = begin(plain)
    plain.commit(first, first.policy, CHANGE)
    path.unlink()
    with pytest.raises(ConfigError, match="is missing, but"):
        plain.load()
    with pytest.raises(ConfigError, match="is missing, but"):
        begin(plain)


# ------------------------------------------------------------------------------------ rotation


@pytest.mark.parametrize("before", [None, SECRET], ids=["readable", "sealed"])
def test_the_passphrase_can_be_changed(path: Path, before: str | None) -> None:
    store = store_at(path, before)
    first = begin(store)
    store.commit(first, with_key(first.policy, "one"), CHANGE)

    both = store_at(path, before, NEXT)
    rotated = both.rotate(CHANGE)
    # Who knows only the next one can go on; who knows both could all along.
    for reader in (store_at(path, NEXT), both):
        assert reader.load() == rotated
        assert reader.generations() == [2, 1]
        assert [reader.generation(n) is not None for n in (2, 1)] == [True, True]
    # What is written by those with both stays under the next one.
    both.commit(rotated, rotated.policy, CHANGE)
    assert present(store_at(path, NEXT)).policy.generation == 4
    with pytest.raises(ConfigError):
        store.load()
    for file in (path, *Path(f"{path}.history").iterdir()):
        assert file.read_bytes().startswith(b"IFPS")


def test_there_has_to_be_a_next_passphrase(path: Path) -> None:
    begin(store_at(path, SECRET))
    with pytest.raises(ConfigError, match=NEXT_PASSPHRASE):
        store_at(path, SECRET).rotate(CHANGE)


def test_a_rotation_that_was_cut_short_can_be_repeated(path: Path) -> None:
    store = store_at(path, SECRET)
    first = begin(store)
    store.commit(first, first.policy, CHANGE)
    both = store_at(path, SECRET, NEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(both.storage, "replace", lambda *_: (_ for _ in ()).throw(StorageError("!")))
        with pytest.raises(StoreUnavailableError):
            both.rotate(CHANGE)
    # The history is sealed anew by now, and the policy is not: whoever has both reads everything.
    assert present(both).policy.generation == 2
    assert both.generation(1) is not None
    assert both.rotate(CHANGE) == store_at(path, NEXT).load()
