"""Files, Redis and PostgreSQL keep a policy alike: whole, in order, and for whoever saw the newest."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.postgres_servers import PostgresServer, postgres_server
from support.redis_servers import RedisServer, redis_server

from inferflux_api.governance.policy.changes import Editor, NewKey
from inferflux_api.governance.policy.document import Change, new_policy
from inferflux_api.governance.policy.storages.opening import open_storage
from inferflux_api.governance.policy.storages.storage import (
    KEPT,
    ChangedMeanwhileError,
    Entry,
    Storage,
    StorageError,
    UnsafeError,
)
from inferflux_api.governance.policy.store import PolicyChangedError, PolicyStore
from inferflux_core.errors import ConfigError

CHANGE = Change(at=1.0, by="a test", what="try")
PLACES = ["file", "redis", "postgres"]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place, as a configuration names it."""
    if request.param == "file":
        return str(tmp_path / "policy.conf")
    url: str = request.getfixturevalue(request.param).url
    storage = open_storage(url)
    empty(storage)
    storage.close()
    return url


@pytest.fixture
def storage(place: str) -> Iterator[Storage]:
    storage = open_storage(place)
    yield storage
    storage.close()


def empty(storage: Storage) -> None:
    from inferflux_api.governance.policy.storages.postgres import PostgresStorage
    from inferflux_api.governance.policy.storages.redis import RedisStorage

    if isinstance(storage, RedisStorage):
        storage._redis.flushdb()
    elif isinstance(storage, PostgresStorage):
        with storage._cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS inferflux_policy")


@contextmanager
def opened(place: str) -> Iterator[PolicyStore]:
    store = PolicyStore(open_storage(place))
    yield store
    store.close()


def entry(generation: int) -> Entry:
    return Entry(generation, b"\0IFPS %d" % generation)


def test_an_empty_place(storage: Storage) -> None:
    assert storage.load() is None
    assert storage.revision() is None
    assert storage.superseded() == []
    assert storage.load_superseded(1) is None


def test_what_is_replaced_is_kept(storage: Storage) -> None:
    storage.replace(None, entry(1))
    revisions = [storage.revision()]
    for generation in (2, 3):
        storage.replace(entry(generation - 1), entry(generation))
        revisions.append(storage.revision())
    assert storage.load() == entry(3).data
    assert storage.revision() == revisions[-1]
    assert len(set(revisions)) == 3
    assert storage.superseded() == [2, 1]
    assert storage.load_superseded(1) == entry(1).data
    storage.rewrite_superseded(Entry(1, b"sealed anew"))
    assert storage.load_superseded(1) == b"sealed anew"
    assert storage.load() == entry(3).data


def test_only_who_saw_the_newest_replaces_it(storage: Storage) -> None:
    storage.replace(None, entry(1))
    with pytest.raises(ChangedMeanwhileError):
        storage.replace(None, entry(1))
    storage.replace(entry(1), entry(2))
    for before in (entry(1), Entry(2, b"other"), None):
        with pytest.raises(ChangedMeanwhileError):
            storage.replace(before, entry(3))
    assert storage.load() == entry(2).data
    assert storage.superseded() == [1]


def test_the_history_has_an_end(storage: Storage) -> None:
    storage.replace(None, entry(1))
    for generation in range(2, KEPT + 10):
        storage.replace(entry(generation - 1), entry(generation))
    assert storage.superseded() == list(range(KEPT + 8, 8, -1))


@pytest.mark.parametrize("place", ["file", "redis"], indirect=True)
def test_a_policy_that_vanished_is_not_begun_anew(storage: Storage, place: str) -> None:
    storage.replace(None, entry(1))
    storage.replace(entry(1), entry(2))
    if place.startswith("redis"):
        storage._redis.delete("{inferflux:policy}:current")  # type: ignore[attr-defined]
    else:
        Path(place).unlink()
    with pytest.raises(UnsafeError, match="missing"):
        storage.load()
    with pytest.raises((UnsafeError, ChangedMeanwhileError)):
        storage.replace(None, entry(1))


def test_two_writers_lose_nothing(place: str) -> None:
    with opened(place) as store:
        store.commit(None, new_policy(), CHANGE)
    refused = [0, 0]

    def add(store: PolicyStore, name: str) -> bool:
        before = store.load()
        assert before is not None
        policy = Editor().add_key(before.policy, NewKey(name=name, scopes=["read"]))[0]
        try:
            store.commit(before, policy, CHANGE)
        except PolicyChangedError:
            return False
        return True

    def work(number: int) -> None:
        with opened(place) as store:
            for turn in range(15):
                while not add(store, f"{number}-{turn}"):
                    refused[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with opened(place) as store:
        snapshot = store.load()
    assert snapshot is not None
    assert snapshot.policy.generation == 31
    assert {k.name for k in snapshot.policy.api_keys} == {
        f"{n}-{t}" for n in (0, 1) for t in range(15)
    }


WRITER = """
import sys
from inferflux_api.governance.policy.document import Change
from inferflux_api.governance.policy.storages.opening import open_storage
from inferflux_api.governance.policy.store import PolicyStore
store = PolicyStore(open_storage(sys.argv[1]))
snapshot = store.load()
while True:
    snapshot = store.commit(snapshot, snapshot.policy, Change(at=1.0, by="writer", what="try"))
    print(snapshot.policy.generation, flush=True)
"""


@pytest.mark.slow
def test_who_is_killed_while_it_writes_loses_nothing_acknowledged(place: str) -> None:
    rounds, acknowledged = 8, 0
    with opened(place) as store:
        store.commit(None, new_policy(), CHANGE)
        for turn in range(rounds):
            seen = killed_writer(place, 0.003 + 0.0037 * turn)
            snapshot = store.load()
            assert snapshot is not None
            assert snapshot.policy.generation in (seen[-1], seen[-1] + 1)
            acknowledged += len(seen)
        assert store.commit(snapshot, new_policy(), CHANGE).policy.generation > acknowledged
    print(f"\n{place.partition(':')[0]}: {rounds} writers killed, {acknowledged} commits, 0 lost")


def killed_writer(place: str, seconds: float) -> list[int]:
    """Let a process commit until it is killed, which may be anywhere; what it was acknowledged."""
    command = [sys.executable, "-c", WRITER, place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline())]
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        return seen + [int(line) for line in writer.stdout.read().split()]


@pytest.mark.parametrize("place", ["redis"], indirect=True)
def test_a_redis_that_is_slow_or_down(place: str, storage: Storage, redis: RedisServer) -> None:
    storage.replace(None, entry(1))
    redis.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StorageError):
            storage.load()
        assert time.monotonic() - began < 6
    finally:
        redis.thaw()
    assert storage.load() == entry(1).data
    redis.kill()
    with pytest.raises(StorageError):
        storage.revision()
    redis.start()
    assert storage.load() is None  # this one keeps nothing


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_postgres_that_crashes_keeps_what_it_acknowledged(
    place: str, storage: Storage, postgres: PostgresServer
) -> None:
    storage.replace(None, entry(1))
    for generation in (2, 3):
        storage.replace(entry(generation - 1), entry(generation))
        postgres.kill()
        with pytest.raises(StorageError):
            storage.load()
        postgres.start()
        assert storage.load() == entry(generation).data


@pytest.mark.parametrize(
    ("where", "label"),
    [
        ("redis://user:hidden@h:7/3", "redis://h:7/3"),
        ("postgresql://user:hidden@h/db", "postgresql://h:5432/db"),
    ],
)
def test_a_label_has_no_password(where: str, label: str) -> None:
    storage = open_storage(where)
    assert storage.label == label
    storage.close()


@pytest.mark.parametrize("where", ["redis://h:port/0", "postgresql://h/db?no_such=1"])
def test_addresses_without_sense(where: str) -> None:
    with pytest.raises(ConfigError, match="not a URL"):
        open_storage(where)


def test_nothing_here_can_be_seen_by_others(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "policy.conf"))
    storage.replace(None, entry(1))
    storage.replace(entry(1), entry(2))
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
