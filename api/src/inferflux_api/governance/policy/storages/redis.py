"""A policy in Redis.

Redis replicates in the background: a fail-over may lose a change that was acknowledged, and so may a crash
without `appendfsync always`. Where that matters, keep the policy in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
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

# KEYS: current, history. ARGV: whether there is a policy to replace, its bytes and generation; bytes and
# generation of the new one; how many to keep.
_REPLACE: Final = """
local data = redis.call('HGET', KEYS[1], 'data')
if ARGV[1] == '1' then
    if data ~= ARGV[2] then return 0 end
    redis.call('HSET', KEYS[2], ARGV[3], ARGV[2])
elseif data or redis.call('HLEN', KEYS[2]) > 0 then
    return 0
end
redis.call('HSET', KEYS[1], 'data', ARGV[4], 'generation', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'revision', 1)
for _, generation in ipairs(redis.call('HKEYS', KEYS[2])) do
    if tonumber(generation) < tonumber(ARGV[5]) - tonumber(ARGV[6]) then
        redis.call('HDEL', KEYS[2], generation)
    end
end
return 1
"""


class RedisStorage:
    """Keeps a policy in one database of a Redis server.

    Args:
        url: `redis://` or `rediss://`, with user, password and database if it needs them.

    Raises:
        ValueError: it makes no sense.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._label = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
        self._redis = Redis.from_url(
            url,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            # Once more, at once, for connections that Redis has closed meanwhile.
            retry=Retry(NoBackoff(), 1),
        )
        self._replace = self._redis.register_script(_REPLACE)

    @property
    def label(self) -> str:
        """The address, without user and password."""
        return self._label

    def revision(self) -> Hashable:
        """How often the policy was replaced."""
        return _ask(lambda: self._redis.hget(_CURRENT, "revision"))

    def load(self) -> bytes | None:
        """The policy.

        Raises:
            UnsafeError: there is only its history.
            StorageError: it cannot be had.
        """
        data = _ask(lambda: self._redis.hget(_CURRENT, "data"))
        if data is None and (generations := self.superseded()):
            raise UnsafeError(
                f"the policy is missing, but its history has generation {generations[0]}",
                f"restore it from a backup; if the store is to begin anew, delete {_HISTORY}",
            )
        return cast("bytes | None", data)

    def replace(self, before: Entry | None, after: Entry) -> None:
        """Replace the policy in one step, in which Redis does nothing else."""
        old = (0, b"", 0) if before is None else (1, before.data, before.generation)
        new = (after.data, after.generation, KEPT)
        if _ask(lambda: self._replace([_CURRENT, _HISTORY], [*old, *new])) != 1:
            raise ChangedMeanwhileError

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


def _ask(question: Callable[[], _T]) -> _T:
    try:
        return question()
    except (RedisError, OSError) as error:
        raise StorageError(f"Redis: {error}") from None
