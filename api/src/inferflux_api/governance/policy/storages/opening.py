"""From what a configuration says to a place where a policy is kept."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from inferflux_api.governance.policy.storages.files import FileStorage
from inferflux_api.governance.policy.storages.storage import Storage
from inferflux_core.errors import ConfigError

__all__ = ["open_storage"]


def open_storage(where: str) -> Storage:
    """The storage at a URL of Redis or PostgreSQL, or else at a path.

    Raises:
        ConfigError: the URL makes no sense, or the client for it is not installed.
    """
    try:
        scheme = urlsplit(where).scheme
    except ValueError:
        scheme = ""
    try:
        if scheme in ("redis", "rediss"):
            from inferflux_api.governance.policy.storages.redis import RedisStorage

            return RedisStorage(where)
        if scheme in ("postgresql", "postgres"):
            from inferflux_api.governance.policy.storages.postgres import PostgresStorage

            return PostgresStorage(where)
    except ImportError as error:
        extra = "redis" if scheme.startswith("redis") else "postgres"
        raise ConfigError(
            f"policy_store: the client for {scheme} is missing ({error})",
            hint=f"pip install 'inferflux-api[{extra}]'",
        ) from error
    except ValueError as error:
        # The whole of it may hold a password.
        raise ConfigError(f"policy_store: not a URL for {scheme}: {error}") from None
    return FileStorage(Path(where))
