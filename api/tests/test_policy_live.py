"""The policy while a server runs: newest in force, changes whole, and what cannot be used changes nothing."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inferflux_api.governance.policy.changes import Editor, NewKey
from inferflux_api.governance.policy.document import Change, Policy, new_policy
from inferflux_api.governance.policy.live import Install, LivePolicy
from inferflux_api.governance.policy.storages.files import FileStorage
from inferflux_api.governance.policy.store import PolicyStore, Snapshot
from inferflux_core.config.schema import RateLimitConfig
from inferflux_core.errors import (
    ConfigError,
    InvalidRequestError,
    NotFoundError,
    PluginError,
    PolicyUnavailableError,
    PreconditionFailedError,
)

pytestmark = pytest.mark.anyio
CHANGE = Change(at=1.0, by="other", what="elsewhere")


class Replica:
    """A live policy, and what it put in force."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = PolicyStore(FileStorage(path))
        self.in_force: list[Policy] = []
        self.seen = asyncio.Event()
        self.refuses = ""
        self.live = LivePolicy(self.store, self._prepare)
        self.live.load()

    def _prepare(self, policy: Policy) -> Install:
        if self.refuses:
            raise PluginError(self.refuses)
        return lambda: self._install(policy)

    def _install(self, policy: Policy) -> None:
        self.in_force.append(policy)
        if policy.generation == 2:
            self.seen.set()

    def snapshot(self) -> Snapshot:
        snapshot = self.store.load()
        assert snapshot is not None
        return snapshot


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.conf"


@pytest.fixture
def one(path: Path) -> Replica:
    PolicyStore(FileStorage(path)).commit(None, new_policy(), CHANGE)
    return Replica(path)


@pytest.fixture
def two(one: Replica) -> Replica:
    return Replica(one.path)


def limited(n: int) -> Callable[[Policy], Policy]:
    return lambda policy: Editor().set_limits(policy, RateLimitConfig(requests_per_minute=n))


def named(name: str) -> Callable[[Policy], Policy]:
    return lambda policy: Editor().add_key(policy, NewKey(name=name, scopes=["read"]))[0]


async def change(replica: Replica, n: int, expected: int | None = None) -> Policy:
    return await replica.live.change(limited(n), by="me", what="limit", expected=expected)


async def test_a_change_is_in_force_here_and_after_a_look_there(one: Replica, two: Replica) -> None:
    policy = await change(one, 5)
    assert one.in_force[-1].rate_limit == RateLimitConfig(requests_per_minute=5)
    assert (policy.generation, policy.change and policy.change.by) == (2, "me")
    assert two.live.generation == 1
    await two.live.refresh()
    assert two.in_force[-1] == policy


async def test_changes_of_two_servers_are_both_kept(one: Replica, two: Replica) -> None:
    async def work(replica: Replica, kind: str) -> None:
        for n in range(10):
            await replica.live.change(named(f"{kind}{n}"), by=kind, what="add")

    await asyncio.gather(work(one, "a"), work(two, "b"))
    names = {key.name for key in one.snapshot().policy.api_keys}
    assert names == {f"{kind}{n}" for kind in "ab" for n in range(10)}
    assert one.snapshot().policy.generation == 21


async def test_who_saw_an_older_policy_is_told(one: Replica, two: Replica) -> None:
    await change(two, 5)
    with pytest.raises(PreconditionFailedError, match="generation 2, not 1"):
        await change(one, 6, expected=1)
    assert (await change(one, 6, expected=2)).generation == 3


async def test_what_cannot_be_done_is_not_written(one: Replica) -> None:
    one.refuses = "there is no such guardrail"
    with pytest.raises(InvalidRequestError, match="no such guardrail"):
        await change(one, 5)
    assert one.snapshot().policy.generation == 1
    with pytest.raises(InvalidRequestError, match="name"):
        await one.live.change(named("a\nb"), by="me", what="add")


async def test_what_another_server_wrote_and_this_one_cannot_do_leaves_it_as_it_is(
    one: Replica, two: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    await change(one, 5)
    two.refuses = "there is no such guardrail"
    for _ in range(3):
        await two.live.refresh()
    assert two.live.generation == 1
    assert caplog.text.count("stays generation 1: there is no such guardrail") == 1
    two.refuses = ""
    await two.live.refresh()
    assert two.live.generation == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"{}"), "unknown version"),
        (lambda path: path.write_bytes(b"\0"), "damaged"),
        (lambda path: path.unlink(), "missing|gone"),
        (lambda path: path.chmod(0o644), "other accounts"),
    ],
)
async def test_the_last_good_policy_stays(
    one: Replica, spoil: Callable[[Path], None], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    await change(one, 5)
    content = one.path.read_bytes()
    spoil(one.path)
    await one.live.refresh()
    assert one.live.generation == 2
    assert any(message.split("|")[0] in record.message for record in caplog.records)
    age = one.live.age
    with pytest.raises(PolicyUnavailableError):
        await change(one, 6)
    assert one.live.age >= age
    one.path.write_bytes(content)
    one.path.chmod(0o600)
    assert (await change(one, 6)).generation == 3


async def test_an_older_policy_is_not_taken(one: Replica, caplog: pytest.LogCaptureFixture) -> None:
    content = one.path.read_bytes()
    await change(one, 5)
    one.path.write_bytes(content)
    shutil.rmtree(f"{one.path}.history")
    await one.live.refresh()
    assert one.live.generation == 2
    assert "went back to generation 1" in caplog.text


async def test_another_store_is_not_taken(one: Replica, caplog: pytest.LogCaptureFixture) -> None:
    one.path.unlink()
    other = PolicyStore(FileStorage(one.path))
    snapshot = other.commit(None, new_policy(), CHANGE)
    other.commit(snapshot, snapshot.policy, CHANGE)
    await one.live.refresh()
    assert one.live.generation == 1
    assert "replaced by another one" in caplog.text


async def test_history_and_the_way_back(one: Replica) -> None:
    for n in (5, 6):
        await change(one, n)
    assert [p.generation for p in await one.live.generations()] == [3, 2, 1]
    old = await one.live.at(2)
    policy = await one.live.change(lambda p: Editor().restore(p, old), by="me", what="back")
    assert policy.generation == 4
    assert policy.rate_limit == RateLimitConfig(requests_per_minute=5)
    with pytest.raises(NotFoundError):
        await one.live.at(9)


async def test_a_store_begins_with_the_first_change(path: Path) -> None:
    replica = Replica(path)
    assert replica.live.generation == 0
    assert (await change(replica, 5)).generation == 1
    assert replica.snapshot().policy.pepper == replica.in_force[0].pepper


async def test_without_a_store_nothing_is_changed() -> None:
    live = LivePolicy(None, lambda policy: lambda: None)
    live.load()
    with pytest.raises(PolicyUnavailableError, match="policy_store"):
        await live.change(limited(1), by="me", what="limit")


async def test_it_looks_by_itself(
    one: Replica, two: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    two.live.start()
    try:
        await change(one, 5)
        await asyncio.wait_for(two.seen.wait(), 5)
    finally:
        await two.live.stop()
    assert "generation 2 is in force" in caplog.text


def test_a_server_does_not_start_with_a_damaged_store(path: Path) -> None:
    path.write_bytes(b"nonsense")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="damaged"):
        Replica(path)
