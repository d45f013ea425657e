"""Counting in Redis, for all replicas together.

Each step is one script, so it is atomic, and counts by the clock of Redis. Places of running requests are
leases that this process renews: those of one that dies come free by themselves.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from inferflux_api.governance.limits.store import Charge, Grant, Standing, StoreFailedError

__all__ = ["RedisStore"]

logger = logging.getLogger("inferflux.limits")

_PREFIX: Final = "inferflux:limits:"
_MOST_CONNECTIONS: Final = 16
_MOST_OWED: Final = 10_000
_PAUSE_SECONDS: Final = 1.0


class RedisStore:
    """Counters in a Redis server.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with user, password and database if it needs them.
        timeout: seconds for one question, all in all. After one that failed, none is asked for a second.
        lease: seconds for which the places of this process's running requests outlive it.
    """

    def __init__(self, url: str, timeout: float = 1.0, lease: float = 30.0) -> None:
        self._timeout = timeout
        self._lease = lease
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MOST_CONNECTIONS,
            timeout=timeout,
            socket_connect_timeout=timeout,
            # Once more, at once, for connections that Redis has closed meanwhile. No script minds.
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = Redis.from_pool(pool)
        self._reserve = self._redis.register_script(_source("reserve.lua"))
        self._settle = self._redis.register_script(_source("settle.lua"))
        self._renew = self._redis.register_script(_source("renew.lua"))
        self._replica = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._held: dict[str, Grant] = {}
        self._owed: OrderedDict[str, tuple[Grant, int | None]] = OrderedDict()
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._paused_until = 0.0
        self._closing = False

    async def start(self) -> None:
        """Begin to settle and renew, and see whether Redis is there.

        Raises:
            StoreFailedError: it is not. If it comes later, it will be used.
        """
        self._worker = asyncio.create_task(self._work(), name="limits")
        await self._ask(self._redis.ping())

    async def reserve(self, charges: Sequence[Charge]) -> Grant:
        """Count all charges if every one fits, else none.

        Raises:
            StoreFailedError: Redis does not answer, or did not a moment ago.
        """
        if time.monotonic() < self._paused_until:
            raise StoreFailedError("Redis did not answer a moment ago")
        grant = Grant(self, f"{self._replica}-{next(self._numbers)}", charges, [])
        arguments: list[str | int | float] = [grant.id, int(self._lease * 1000)]
        for charge in charges:
            arguments += (charge.rule.seconds, charge.amount, charge.rule.limit)
        try:
            verdict, *figures = await self._ask(self._reserve(_keys(grant), arguments))
        except BaseException:
            # Nobody knows whether it was counted; it must not be.
            self._owe(grant, None)
            raise
        if verdict < 0:
            raise StoreFailedError("the answer came too late")
        grant = Grant(self, grant.id, charges, _standings(charges, figures))
        if grant.admitted:
            self._held[grant.id] = grant
        return grant

    def settle(self, grant: Grant, used: int | None) -> None:
        """Correct what was counted for a request that has ended, soon."""
        if self._held.pop(grant.id, None) is not None:
            self._owe(grant, used)

    async def close(self) -> None:
        """Settle what is still open, if Redis answers, and let go."""
        self._closing = True
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
        with suppress(StoreFailedError):
            await self._settle_owed()
        await self._redis.aclose()

    def _owe(self, grant: Grant, used: int | None) -> None:
        self._owed[grant.id] = (grant, used)
        if len(self._owed) > _MOST_OWED:
            # Its tokens stay counted until their window has passed, its place until its lease has.
            self._owed.popitem(last=False)
        self._wake.set()

    async def _work(self) -> None:
        renewal = time.monotonic() + self._lease / 3
        while not self._closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(renewal - time.monotonic()):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._settle_owed()
                if time.monotonic() >= renewal:
                    renewal = time.monotonic() + self._lease / 3
                    await self._renew_held()
            except StoreFailedError as error:
                logger.warning(
                    "rate_limit.storage: %s; %d requests to settle", error, len(self._owed)
                )
                await asyncio.sleep(_PAUSE_SECONDS)
                self._wake.set()

    async def _settle_owed(self) -> None:
        while self._owed:
            name, (grant, used) = next(iter(self._owed.items()))
            arguments: list[str | int | float] = [grant.id]
            for charge in grant.charges:
                arguments += (charge.rule.seconds, charge.owed(used))
            await self._ask(self._settle(_keys(grant), arguments))
            self._owed.pop(name, None)

    async def _renew_held(self) -> None:
        places: dict[str, list[str]] = {}
        for grant in self._held.values():
            for charge in grant.charges:
                if not charge.rule.seconds:
                    places.setdefault(_PREFIX + charge.rule.counter, []).append(grant.id)
        for key, members in places.items():
            await self._ask(self._renew([key], [int(self._lease * 1000), *members]))

    async def _ask(self, question: Awaitable[Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        cancellations = task.cancelling()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await question
        except TimeoutError as error:
            failure = StoreFailedError(f"Redis did not answer within {self._timeout:g} s")
            cause: Exception = error
        except (RedisError, OSError) as error:
            failure, cause = StoreFailedError(f"Redis failed: {error}"), error
        else:
            if task.cancelling() > cancellations:
                # The client for Redis swallows a cancellation that meets the end of its waiting.
                raise asyncio.CancelledError
            self._paused_until = 0.0
            return answer
        self._paused_until = time.monotonic() + _PAUSE_SECONDS
        raise failure from cause


def _source(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _keys(grant: Grant) -> list[str]:
    return [f"{_PREFIX}request:{grant.id}", *(_PREFIX + c.rule.counter for c in grant.charges)]


def _standings(charges: Iterable[Charge], figures: Sequence[int]) -> list[Standing]:
    """Figures come in threes: used, and two times in milliseconds."""
    triples = zip(figures[::3], figures[1::3], figures[2::3], strict=True)
    return [
        Standing(charge.rule, used, reset / 1000, wait / 1000)
        for charge, (used, reset, wait) in zip(charges, triples, strict=True)
    ]
