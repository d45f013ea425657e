"""From what a configuration says to a place where a policy is kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from inferflux_api.governance.policy.storages.files import FileStorage
from inferflux_api.governance.policy.storages.storage import Storage
from inferflux_core.errors import ConfigError

__all__ = ["open_storage"]

_REDIS: Final = ("redis", "rediss", "unix")
_POSTGRES: Final = ("postgresql", "postgres")
# Parsers disagree about anything else, and would take a part of a password for a host, or show it.
_CREDENTIALS: Final = re.compile(r"(?:[^/?#@%\[\]\s]|%[0-9A-Fa-f]{2})*")


def open_storage(where: str) -> Storage:
    """The storage at a URL of Redis or PostgreSQL, or else at a path.

    Raises:
        ConfigError: the URL makes no sense, or the client for it is not installed.
    """
    scheme, is_url, rest = where.partition("://")
    if not is_url:
        return FileStorage(Path(where))
    if scheme not in (*_REDIS, *_POSTGRES):
        # Not the whole of it, here and below: it may hold a password.
        raise ConfigError(
            f"policy_store: there is no storage for {scheme}://",
            hint="name a file by its path, or begin with redis://, rediss://, unix:// or postgresql://",
        )
    if not _CREDENTIALS.fullmatch(rest.rpartition("@")[0]):
        raise ConfigError(
            f"policy_store: not a URL for {scheme}: its user or password has special characters",
            hint="write them percent-encoded: %40 for @, %2F for /, %25 for %",
        )
    try:
        if scheme in _REDIS:
            from inferflux_api.governance.policy.storages.redis import RedisStorage

            return RedisStorage(where)
        from inferflux_api.governance.policy.storages.postgres import PostgresStorage

        return PostgresStorage(where)
    except ImportError as error:
        extra = "redis" if scheme in _REDIS else "postgres"
        raise ConfigError(
            f"policy_store: the client for {scheme} is missing ({error})",
            hint=f"pip install 'inferflux-api[{extra}]'",
        ) from error
    except ValueError:
        raise ConfigError(
            f"policy_store: not a URL for {scheme}: its port, database or an option makes no sense",
            hint=f"write {scheme}://user:password@host:port/database",
        ) from None
