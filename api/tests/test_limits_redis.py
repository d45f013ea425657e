"""Limits that are counted in a real Redis."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from support.redis_servers import RedisServer, redis_server

from inferflux_api.governance.limits.rules import Rule
from inferflux_api.governance.limits.shared import RedisStore
from inferflux_api.governance.limits.store import Charge, StoreFailedError

REQUESTS = Rule("requests_per_minute", 100, "tenant", "requests", 60)
TOKENS = Rule("tokens_per_minute", 1000, "tenant", "tokens", 60, in_tokens=True)
RUNNING = Rule("concurrent_requests", 5, "tenant", "running", 0)
RULES = (REQUESTS, TOKENS, RUNNING)
PREFIX = "inferflux:limits:"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def client(redis: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis.url) as connected:
        connected.flushall()
        yield connected


@asynccontextmanager
async def replicas(
    redis: RedisServer, count: int = 1, patience: float = 5.0, lease: float = 30.0
) -> AsyncIterator[list[RedisStore]]:
    """Stores as several server processes would have them."""
    stores = [RedisStore(redis.url, patience, lease) for _ in range(count)]
    try:
        for store in stores:
            await store.start()
        yield stores
    finally:
        for store in stores:
            await store.close()


def charges(tokens: int, rules: tuple[Rule, ...] = RULES) -> list[Charge]:
    return [Charge(rule, tokens if rule.in_tokens else 1) for rule in rules]


def used(client: Redis, rule: Rule) -> int:
    key = PREFIX + rule.counter
    if not rule.seconds:
        return int(client.zcard(key))
    return sum(int(amount) for amount in client.hgetall(key).values())


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def test_five_hundred_at_once_over_two_replicas(redis: RedisServer, client: Redis) -> None:
    async def scenario() -> None:
        async with replicas(redis, 2, patience=20) as stores:
            asked = [stores[n % 2].reserve(charges(1, (REQUESTS,))) for n in range(500)]
            grants = await asyncio.gather(*asked)
        assert sum(grant.admitted for grant in grants) == 100

    asyncio.run(scenario())
    assert used(client, REQUESTS) == 100


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_comes_and_is_cancelled(redis: RedisServer, seed: int) -> None:
    choose = random.Random(seed)
    spent: list[int] = []
    held = most = 0

    async def request(store: RedisStore) -> None:
        nonlocal held, most
        tokens = choose.randrange(1, 400)
        grant = await store.reserve(charges(tokens))
        if not grant.admitted:
            return
        count = used_of_it = 0
        try:
            held += tokens
            count = 1
            most = max(most, held)
            await asyncio.sleep(choose.random() / 100)
            used_of_it = choose.randrange(tokens + 1)
        finally:
            held -= tokens * count - used_of_it
            spent.append(used_of_it)
            store.settle(grant, used_of_it)

    async def scenario() -> None:
        async with replicas(redis, 2) as stores:
            tasks = [asyncio.create_task(request(choose.choice(stores))) for _ in range(30)]
            for task in choose.sample(tasks, 10):
                await asyncio.sleep(choose.random() / 200)
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, asyncio.CancelledError)

    with Redis.from_url(redis.url) as client:
        client.flushall()
        asyncio.run(scenario())
        assert most <= TOKENS.limit
        assert used(client, TOKENS) == sum(spent)
        assert used(client, RUNNING) == 0
        assert used(client, REQUESTS) == len(spent)


def test_what_is_used_leaves_the_window_when_it_was_said(redis: RedisServer, client: Redis) -> None:
    rule = Rule("tokens_per_minute", 10, "tenant", "short", 0.6, in_tokens=True)

    async def scenario() -> None:
        async with replicas(redis) as (store,):
            begun = time.monotonic()
            grant = await store.reserve([Charge(rule, 10)])
            assert grant.admitted
            refused = await store.reserve([Charge(rule, 1)])
            (standing,) = refused.standings
            assert standing.used == 10
            assert 0.3 < standing.wait <= 0.61
            await asyncio.sleep(standing.wait + 0.01)
            assert (await store.reserve([Charge(rule, 10)])).admitted
            assert time.monotonic() - begun >= 0.6

    asyncio.run(scenario())
    assert client.pttl(PREFIX + rule.counter) > 0


def test_a_clock_that_goes_back_stops_nobody_for_long(redis: RedisServer, client: Redis) -> None:
    """What seems to be of tomorrow counts as of now, and leaves the window with it."""
    tomorrow = int(time.time()) + 86_400
    client.hset(PREFIX + TOKENS.counter, str(tomorrow), 900)
    client.hset(PREFIX + TOKENS.counter, str(tomorrow + 1), 50)
    client.zadd(PREFIX + RUNNING.counter, {f"dead-{n}": tomorrow * 1000 for n in range(5)})

    async def scenario() -> None:
        async with replicas(redis) as (store,):
            refused = await store.reserve(charges(100))
            by_rule = {standing.rule: standing for standing in refused.standings}
            assert by_rule[TOKENS].used == 950
            assert 59 < by_rule[TOKENS].wait <= 61
            assert by_rule[RUNNING].wait > 0

    asyncio.run(scenario())
    slices = [int(index) for index in client.hgetall(PREFIX + TOKENS.counter)]
    assert max(slices) <= time.time()
    scores = [score for _, score in client.zrange(PREFIX + RUNNING.counter, 0, -1, withscores=True)]
    assert max(scores) <= (time.time() + 31) * 1000


def test_places_of_a_dead_replica_come_free(redis: RedisServer, client: Redis) -> None:
    async def scenario() -> None:
        async with replicas(redis, 2, lease=0.3) as (dying, living):
            for _ in range(4):
                assert (await dying.reserve(charges(1, (RUNNING,)))).admitted
            assert (await living.reserve(charges(1, (RUNNING,)))).admitted
            await dying.close()
            assert not (await living.reserve(charges(1, (RUNNING,)))).admitted
            await asyncio.sleep(0.4)
            # Its own place was renewed meanwhile; four others are free.
            grants = [await living.reserve(charges(1, (RUNNING,))) for _ in range(5)]
            assert [grant.admitted for grant in grants] == [True] * 4 + [False]

    asyncio.run(scenario())


def test_nothing_hangs_on_a_frozen_redis_and_nothing_is_charged_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        with redis_server(tmp_path) as redis, Redis.from_url(redis.url) as client:
            async with replicas(redis, patience=0.2) as (store,):
                grant = await store.reserve(charges(100))
                redis.freeze()
                begun = time.monotonic()
                with pytest.raises(StoreFailedError, match="within"):
                    await store.reserve(charges(300))
                assert time.monotonic() - begun < 1
                begun = time.monotonic()
                with pytest.raises(StoreFailedError, match="a moment ago"):
                    await store.reserve(charges(300))
                assert time.monotonic() - begun < 0.1
                store.settle(grant, 40)
                redis.thaw()
                # What it was asked while it was frozen was counted, and is given back.
                await until(lambda: (used(client, TOKENS), used(client, RUNNING)) == (40, 0))
                assert used(client, REQUESTS) == 1

    asyncio.run(scenario())


def test_a_redis_that_comes_back_empty_is_used_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        with redis_server(tmp_path) as redis:
            async with replicas(redis, lease=0.9) as (store,):
                assert (await store.reserve(charges(100))).admitted
                redis.kill()
                with pytest.raises(StoreFailedError):
                    await store.reserve(charges(100))
                redis.start()
                with Redis.from_url(redis.url) as client:
                    # The one that still runs takes its place again.
                    await until(lambda: used(client, RUNNING) == 1)
                    assert (await store.reserve(charges(100))).admitted
                    assert used(client, RUNNING) == 2

    asyncio.run(scenario())


def test_an_attempt_whose_answer_was_lost_counts_once(redis: RedisServer, client: Redis) -> None:
    async def scenario() -> None:
        async with replicas(redis) as (store,):
            script = store._reserve
            keys = [f"{PREFIX}request:r", *(PREFIX + rule.counter for rule in RULES)]
            arguments = ["r", 30_000, 60, 1, 100, 60, 10, 1000, 0, 1, 5]
            first = await script(keys, arguments)
            assert first[0] == 1
            second = await script(keys, arguments)
            assert (second[0], second[1], second[4]) == (1, 1, 10)
            await store._settle(keys, ["r", 60, 0, 60, -10, 0, -1])
            assert await script(keys, arguments) == [-1]

    asyncio.run(scenario())
    assert [used(client, rule) for rule in RULES] == [1, 0, 0]
