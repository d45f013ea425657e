"""A policy in Redis.

Redis replicates in the background: a fail-over may lose a change that was acknowledged, and so may a crash
without `appendfsync always`. Where that matters, keep the policy in PostgreSQL.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError
from redis.retry import Retry

from inferflux_api.governance.policy.storages.storage import (
    KEPT,
    ChangedMeanwhileError,
    Entry,
    StorageError,
    UnsafeError,
)

__all__ = ["RedisStorage"]

_T = TypeVar("_T")
_SECONDS: Final = 2.0
# One tag, so that a cluster keeps them together.
_CURRENT: Final = "{inferflux:policy}:current"
_HISTORY: Final = "{inferflux:policy}:history"
_REPLACED: Final = 1
_CHANGED: Final = 0

# KEYS: current, history. ARGV: whether there is a policy to replace, its bytes and generation; bytes,
# generation and revision of the new one; how many to keep. Asked again because the answer was lost, it
# finds its own revision.
_REPLACE: Final = """
if redis.call('HGET', KEYS[1], 'revision') == ARGV[6] then return 1 end
local data = redis.call('HGET', KEYS[1], 'data')
if ARGV[1] == '1' then
    if data ~= ARGV[2] then return 0 end
    redis.call('HSET', KEYS[2], ARGV[3], ARGV[2])
elseif data then
    return 0
elseif redis.call('HLEN', KEYS[2]) > 0 then
    return -1
end
redis.call('HSET', KEYS[1], 'data', ARGV[4], 'generation', ARGV[5], 'revision', ARGV[6])
for _, generation in ipairs(redis.call('HKEYS', KEYS[2])) do
    if tonumber(generation) < tonumber(ARGV[5]) - tonumber(ARGV[7]) then
        redis.call('HDEL', KEYS[2], generation)
    end
end
return 1
"""


class RedisStorage:
    """Keeps a policy in one database of a Redis server. Nothing waits longer than 2 s for an answer.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with user, password and database if it needs them.

    Raises:
        ValueError: it makes no sense; the text may hold a part of it.
    """

    def __init__(self, url: str) -> None:
        self._label = _label(urlsplit(url))
        self._redis = Redis.from_url(
            url,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            # Once more, at once, for connections that Redis has closed meanwhile, but not for silence.
            retry=Retry(NoBackoff(), 1, supported_errors=(LostError,)),
        )
        try:
            self._redis.connection_pool.make_connection()
        except TypeError as error:
            raise ValueError(f"unknown option: {error}") from None
        self._replace = self._redis.register_script(_REPLACE)

    @property
    def label(self) -> str:
        """The address, without user and password."""
        return self._label

    def revision(self) -> Hashable:
        """A random word that each change brings along."""
        return _ask(lambda: self._redis.hget(_CURRENT, "revision"))

    def load(self) -> bytes | None:
        """The policy.

        Raises:
            UnsafeError: there is only its history.
            StorageError: it cannot be had.
        """
        data = _ask(lambda: self._redis.hget(_CURRENT, "data"))
        if data is None and (generations := self.superseded()):
            raise _missing(generations[0])
        return cast("bytes | None", data)

    def replace(self, before: Entry | None, after: Entry) -> None:
        """Replace the policy in one step, in which Redis does nothing else."""
        old = (0, b"", 0) if before is None else (1, before.data, before.generation)
        new = (after.data, after.generation, secrets.token_hex(8), KEPT)
        outcome = _ask(lambda: self._replace([_CURRENT, _HISTORY], [*old, *new]))
        if outcome == _CHANGED:
            raise ChangedMeanwhileError
        if outcome != _REPLACED:
            raise _missing(max(self.superseded(), default=0))

    def superseded(self) -> list[int]:
        """The fields of the history."""
        fields = cast("list[bytes]", _ask(lambda: self._redis.hkeys(_HISTORY)))
        return sorted(map(int, fields), reverse=True)

    def load_superseded(self, generation: int) -> bytes | None:
        """One of them."""
        return cast("bytes | None", _ask(lambda: self._redis.hget(_HISTORY, str(generation))))

    def rewrite_superseded(self, entry: Entry) -> None:
        """Write one of them anew."""
        _ask(lambda: self._redis.hset(_HISTORY, str(entry.generation), cast(Any, entry.data)))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _label(parts: SplitResult) -> str:
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    if not re.fullmatch(r"/?|/[0-9]+", parts.path):
        # The client would take another database.
        raise ValueError("the database is no number")
    host = parts.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{parts.port or 6379}{parts.path}"


def _missing(generation: int) -> UnsafeError:
    return UnsafeError(
        f"the policy is missing, but its history has generation {generation}",
        f"restore it from a backup; if the store is to begin anew, delete {_HISTORY}",
    )


def _ask(question: Callable[[], _T]) -> _T:
    try:
        return question()
    except (RedisError, OSError) as error:
        raise StorageError(f"Redis: {error}") from None
