"""Files, Redis and PostgreSQL keep a policy alike: whole, in order, and for whoever saw the newest."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

import psycopg
import pytest
from redis import Redis
from support.postgres_servers import PostgresServer, postgres_server
from support.redis_servers import RedisServer, redis_server

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
TABLES = "inferflux_policy, inferflux_policy_history"

Server: TypeAlias = RedisServer | PostgresServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server(tmp_path_factory.mktemp("redis"), *durable) as server:
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
    if request.param == "redis":
        with Redis.from_url(url) as client:
            client.flushdb()
    else:
        statement(url, f"DROP TABLE IF EXISTS {TABLES}")
    return url


@pytest.fixture
def storage(place: str) -> Iterator[Storage]:
    with closing(open_storage(place)) as storage:
        yield storage


@pytest.fixture
def server(place: str, request: pytest.FixtureRequest) -> Server:
    """Who keeps the place."""
    found: Server = request.getfixturevalue("redis" if place.startswith("redis") else "postgres")
    return found


on_servers = pytest.mark.parametrize("place", ["redis", "postgres"], indirect=True)


def statement(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.encode())


def entry(generation: int) -> Entry:
    return Entry(generation, b"\0IFPS %d" % generation)


# ------------------------------------------------------------------------------------ one at a time


def test_an_empty_place(storage: Storage) -> None:
    assert storage.load() is None
    assert storage.revision() is None
    assert storage.superseded() == []
    assert storage.load_superseded(1) is None
    with pytest.raises(ChangedMeanwhileError):
        storage.replace(entry(1), entry(2))


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


def test_a_policy_that_vanished_is_not_begun_anew(storage: Storage, place: str) -> None:
    storage.replace(None, entry(1))
    storage.replace(entry(1), entry(2))
    if place.startswith("redis"):
        with Redis.from_url(place) as client:
            client.delete("{inferflux:policy}:current")
    elif place.startswith("postgres"):
        statement(place, "DELETE FROM inferflux_policy")
    else:
        Path(place).unlink()
    assert storage.revision() is None
    with pytest.raises(UnsafeError, match="missing"):
        storage.load()
    with pytest.raises(UnsafeError, match="missing"):
        storage.replace(None, entry(1))
    assert storage.revision() is None


def test_what_went_back_and_changed_again_is_another_revision(
    storage: Storage, place: str, tmp_path: Path
) -> None:
    """As after a fail-over that lost a change: the same generation, with other content."""
    storage.replace(None, entry(1))
    storage.replace(entry(1), entry(2))
    lost = storage.revision()
    if place.startswith("redis"):
        with Redis.from_url(place) as client:
            client.flushdb()
    elif place.startswith("postgres"):
        statement(place, f"TRUNCATE {TABLES}")
    else:
        Path(place).rename(tmp_path / "aside")
        Path(f"{place}.history").rename(tmp_path / "aside.history")
    storage.replace(None, entry(1))
    storage.replace(entry(1), Entry(2, b"\0IFPS!2"))
    assert storage.revision() != lost


def test_files_can_be_seen_by_nobody_else(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "policy.conf"))
    storage.replace(None, entry(1))
    storage.replace(entry(1), entry(2))
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


# ------------------------------------------------------------------------------------ several at a time


def all_together(tasks: list[Callable[[], object]]) -> None:
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], object]) -> None:
        barrier.wait()
        task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        for done in [pool.submit(run, task) for task in tasks]:
            done.result()


def test_one_of_several_begins(place: str) -> None:
    outcomes: list[str] = []

    def begin(number: int) -> None:
        with closing(open_storage(place)) as storage:
            try:
                storage.replace(None, Entry(1, b"by %d" % number))
            except ChangedMeanwhileError:
                outcomes.append("late")
            else:
                outcomes.append("first")

    all_together([partial(begin, number) for number in range(4)])
    assert sorted(outcomes) == ["first", "late", "late", "late"]


def append(storage: Storage, line: bytes) -> None:
    """Add a line to the newest document, however often somebody else is quicker."""
    while True:
        before = storage.load()
        assert before is not None
        generation = before.count(b"\n")
        with suppress(ChangedMeanwhileError):
            storage.replace(Entry(generation, before), Entry(generation + 1, before + line + b"\n"))
            return


@pytest.mark.parametrize("shared", [False, True], ids=["of-two-servers", "of-one-server"])
def test_two_writers_lose_nothing(place: str, shared: bool) -> None:
    turns = 40
    lines = [[b"%d-%d" % (writer, turn) for turn in range(turns)] for writer in (0, 1)]
    with closing(open_storage(place)) as first, closing(open_storage(place)) as second:
        first.replace(None, Entry(1, b"\n"))

        def work(writer: int) -> None:
            storage = first if shared or writer == 0 else second
            for line in lines[writer]:
                append(storage, line)

        all_together([lambda: work(0), lambda: work(1)])
        document = second.load()
        assert document is not None
        written = document.split()
        assert sorted(written) == sorted(lines[0] + lines[1])
        for mine in lines:
            assert [line for line in written if line in mine] == mine
        newest = 2 * turns + 1
        assert second.superseded() == list(range(newest - 1, newest - KEPT - 1, -1))
        # Each is what the newest one was made of.
        for generation in second.superseded():
            old = second.load_superseded(generation)
            assert old is not None
            assert old.count(b"\n") == generation
            assert document.startswith(old)


# ------------------------------------------------------------------------------------ crashes


# For a longer run: POLICY_KILL_ROUNDS=2000 pytest -k killed -s
ROUNDS = {
    kind: int(os.environ.get("POLICY_KILL_ROUNDS", rounds))
    for kind, rounds in {"file": 100, "redis": 30, "postgresql": 30}.items()
}


@pytest.mark.slow
def test_who_is_killed_while_it_writes_loses_nothing_acknowledged(place: str) -> None:
    kind = place.partition(":")[0] if ":" in place else "file"
    chance = random.Random(7)
    acknowledged = 0
    store = PolicyStore(open_storage(place), "correct horse battery staple")
    with closing(store):
        newest = store.commit(None, new_policy(), CHANGE).policy.generation
        for _ in range(ROUNDS[kind]):
            seen = killed_writer(store, place, chance.uniform(0, 0.01))
            # It opens, so it is not torn; and one more may have been on its way.
            snapshot = store.load()
            assert snapshot is not None
            newest = snapshot.policy.generation
            assert newest in (seen[-1], seen[-1] + 1)
            acknowledged += len(seen)
        assert acknowledged <= newest - 1 <= acknowledged + ROUNDS[kind]
        kept = [number for number in range(newest - 1, newest - KEPT - 1, -1) if number > 0]
        # The last writer may have died between the steps of a file: with the newest among them, because
        # it was to be replaced, or before one was removed.
        assert [number for number in store.generations() if number < newest][:KEPT] == kept
        for number in kept:
            old = store.generation(number)
            assert old is not None
            assert old.generation == number
    print(f"\n{kind}: {ROUNDS[kind]} writers killed, {acknowledged} commits, 0 lost, 0 torn")


def killed_writer(store: PolicyStore, place: str, seconds: float) -> list[int]:
    """Let a process commit until it is killed, which may be anywhere; what it was acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            # With the keys that are derived already, and a connection of its own.
            store.storage = open_storage(place)
            commit_for_ever(store, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as acknowledged:
        first = acknowledged.readline()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        lines = [first, *acknowledged]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return [int(line) for line in lines]


def commit_for_ever(store: PolicyStore, acknowledged: int) -> None:
    snapshot = store.load()
    while snapshot is not None:
        try:
            snapshot = store.commit(snapshot, snapshot.policy, CHANGE)
        except PolicyChangedError:
            # By the server, on behalf of a writer that is dead already.
            snapshot = store.load()
        else:
            os.write(acknowledged, b"%d\n" % snapshot.policy.generation)


@on_servers
def test_a_server_that_is_killed_while_it_writes_keeps_what_it_acknowledged(
    storage: Storage, server: Server
) -> None:
    storage.replace(None, entry(1))
    newest = 1
    for several in range(3, 7):
        acknowledged, enough = [newest], threading.Event()
        arguments = (storage, acknowledged, newest + several, enough)
        writer = threading.Thread(target=replace_until_it_fails, args=arguments)
        writer.start()
        try:
            assert enough.wait(10)
            server.kill()
        finally:
            writer.join()
            server.start()
        newest = acknowledged[-1]
        if storage.load() != entry(newest).data:
            newest += 1  # was on its way
        assert storage.load() == entry(newest).data
        assert storage.superseded()[0] == newest - 1


def replace_until_it_fails(
    storage: Storage, acknowledged: list[int], goal: int, reached: threading.Event
) -> None:
    with suppress(StorageError):
        while True:
            newest = acknowledged[-1]
            storage.replace(entry(newest), entry(newest + 1))
            acknowledged.append(newest + 1)
            if newest + 1 == goal:
                reached.set()


# ------------------------------------------------------------------------------------ failures


@on_servers
def test_a_server_that_is_silent_or_away(place: str, storage: Storage, server: Server) -> None:
    storage.replace(None, entry(1))
    server.freeze()
    try:
        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool, closing(open_storage(place)) as other:
            # On a connection that there is, and on one that is to be made.
            for answer in (pool.submit(storage.load), pool.submit(other.revision)):
                with pytest.raises(StorageError):
                    answer.result()
        assert time.monotonic() - began < 3.5
    finally:
        server.thaw()
    assert storage.load() == entry(1).data
    server.kill()
    try:
        with pytest.raises(StorageError):
            storage.revision()
        with pytest.raises(StorageError):
            storage.replace(entry(1), entry(2))
    finally:
        server.start()
    assert storage.load() == entry(1).data
    storage.replace(entry(1), entry(2))


@contextmanager
def loses_an_answer(port: int) -> Iterator[int]:
    """A relay to Redis that hangs up in the place of the first answer that a policy was replaced."""

    lost = threading.Event()

    def relay() -> None:
        # One connection after the other; the second one asks again.
        for _ in range(2):
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                ends = {client: server, server: client}
                while data := (end := select.select(list(ends), [], [])[0][0]).recv(65536):
                    if end is server and data == b":1\r\n" and not lost.is_set():
                        lost.set()
                        break
                    ends[end].sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=relay)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert lost.is_set()


@pytest.mark.parametrize("place", ["redis"], indirect=True)
def test_a_change_whose_answer_is_lost_is_made_once(place: str, redis: RedisServer) -> None:
    with (
        loses_an_answer(redis.port) as port,
        closing(open_storage(f"redis://127.0.0.1:{port}/0")) as storage,
    ):
        storage.replace(None, entry(1))
        with pytest.raises(ChangedMeanwhileError):
            storage.replace(None, entry(1))
    with closing(open_storage(place)) as storage:
        assert storage.load() == entry(1).data


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_an_account_that_may_create_nothing(place: str, storage: Storage) -> None:
    storage.replace(None, entry(1))
    statement(place, "DROP ROLE IF EXISTS modest")
    statement(place, "CREATE ROLE modest LOGIN")
    statement(place, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO modest")
    try:
        url = f"postgresql://modest@{place.rpartition('@')[2]}"
        with closing(open_storage(url)) as other:
            with pytest.raises(ChangedMeanwhileError):
                other.replace(None, entry(1))
            other.replace(entry(1), entry(2))
            assert other.superseded() == [1]
    finally:
        statement(place, "DROP OWNED BY modest")


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_transaction_that_holds_the_policy_is_not_waited_for(
    place: str, storage: Storage
) -> None:
    storage.replace(None, entry(1))
    with psycopg.connect(place) as holder:
        holder.execute("UPDATE inferflux_policy SET generation = 7")
        began = time.monotonic()
        with pytest.raises(StorageError):
            storage.replace(entry(1), entry(2))
        assert time.monotonic() - began < 4
        holder.rollback()
    storage.replace(entry(1), entry(2))
    assert storage.load() == entry(2).data


# ------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("where", "label"),
    [
        ("redis://user:hidden@h:7/3", "redis://h:7/3"),
        ("rediss://:hid%2Fden@[::1]", "rediss://[::1]:6379"),
        ("unix://user:hidden@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("postgresql://user:hid%40den@h/db", "postgresql://h:5432/db"),
        (
            "postgres:///db?host=/run/postgresql&password=hidden",
            "postgresql:///run/postgresql:5432/db",
        ),
    ],
)
def test_a_label_has_no_password(where: str, label: str) -> None:
    with closing(open_storage(where)) as storage:
        assert storage.label == label
        assert "hid" not in repr(storage)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("redis://h:port/0", "not a URL for redis"),
        ("redis://h/zero", "not a URL for redis"),
        ("redis://h/0?no_such=1", "not a URL for redis"),
        ("postgresql://h/db?no_such=1", "not a URL for postgresql"),
        ("redis://u:hidden/2@h/0", "special characters"),
        ("redis://u:12/hidden@h/0", "special characters"),
        ("redis://u:hidden[2@h/0", "special characters"),
        ("postgresql://u:hidden%zz@h/db", "special characters"),
        ("postgresql://u:12/hidden@h/db", "special characters"),
        ("postgresql://u:1@hidden@h/db", "special characters"),
        ("postgresql://h/db?password=%zzhidden", "not a URL for postgresql"),
        ("reddis://:hidden@h/0", "no storage for reddis://"),
        ("postgresql+psycopg://u:hidden@h/db", r"no storage for postgresql\+psycopg://"),
    ],
)
def test_addresses_without_sense(where: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_storage(where)
    assert "hidden" not in str(caught.value)
    assert caught.value.hint


@on_servers
def test_a_refusal_shows_no_password(place: str, server: Server) -> None:
    name, _, rest = place.partition("://")
    url = f"{name}://nobody:s3cret@{rest.rpartition('@')[2]}"
    with closing(open_storage(url)) as storage, pytest.raises(StorageError) as caught:
        storage.load()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "client", "module"),
    [("redis://h", "redis", "redis"), ("postgres://h/d", "psycopg", "postgres")],
)
def test_a_client_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, where: str, client: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, client, None)
    name = f"inferflux_api.governance.policy.storages.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match="is missing") as caught:
        open_storage(where)
    assert caught.value.hint == f"pip install 'inferflux-api[{module}]'"
