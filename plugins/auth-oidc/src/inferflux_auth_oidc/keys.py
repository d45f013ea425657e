"""The issuer's public keys, kept fresh without ever letting a caller drive the fetching."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable
from typing import Any

import httpx2
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import Key, import_key

from inferflux_auth_oidc.config import IssuerConfig, is_safe
from inferflux_auth_oidc.fetch import FetchError, get_json
from inferflux_auth_oidc.token import algorithm_model
from inferflux_core.errors import ConfigError

__all__ = ["IssuerKeys"]

_log = logging.getLogger(__name__)


class WrongIssuerError(FetchError):
    """The server at the issuer's address is another issuer, by its own account."""


class IssuerKeys:
    """Finds the key that a token names.

    Keys are fetched when they are `refresh_interval` old or when a token names one that is not known,
    but never more often than every `refetch_cooldown`. If that fails, the last good ones serve up to
    `max_stale`.
    """

    def __init__(
        self, config: IssuerConfig, client: httpx2.AsyncClient, clock: Callable[[], float]
    ) -> None:
        self._config = config
        self._clock = clock
        self._client = client
        self._keys: list[Key] = []
        self._metadata: dict[str, Any] = {}
        self._fetched_at = -float("inf")
        self._next_fetch_at = -float("inf")
        self._failure: FetchError | None = None
        self._fetching: asyncio.Task[None] | None = None

    @property
    def available(self) -> bool:
        """Whether there are keys that are not too old to be trusted."""
        return self._clock() - self._fetched_at <= self._config.max_stale

    async def start(self) -> None:
        """Fetch the keys; if the issuer cannot be reached, warn and leave it for later.

        Raises:
            ConfigError: the issuer answers and gives another name for itself.
        """
        await self._fetch_unless_cooling(wait=True)
        if isinstance(self._failure, WrongIssuerError):
            raise ConfigError(
                f"auth.oidc.issuer: {self._failure}",
                hint="Copy the issuer from the discovery document, to the last slash.",
            )

    async def stop(self) -> None:
        """Drop what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def metadata(self) -> dict[str, Any]:
        """The discovery document, as it was last seen; empty before it could be fetched."""
        if not self._metadata:
            await self._fetch_unless_cooling(wait=True)
        return self._metadata

    async def find(self, key_id: str | None, algorithm: str) -> Key | None:
        """The key for a token, or None.

        Args:
            key_id: the token's `kid`; a token without one is accepted if only one key fits.
            algorithm: the token's `alg`, one of those that are accepted.
        """
        key = self._select(key_id, algorithm)
        stale = self._clock() - self._fetched_at > self._config.refresh_interval
        if key is None or stale:
            # While the issuer is down, callers with a known key need not wait for it.
            await self._fetch_unless_cooling(wait=key is None or self._failure is None)
            key = self._select(key_id, algorithm)
        return key

    def _select(self, key_id: str | None, algorithm: str) -> Key | None:
        if not self.available:
            return None
        fitting = [
            key
            for key in self._keys
            if _fits(key, algorithm) and (key_id is None or key.kid == key_id)
        ]
        return fitting[0] if len(fitting) == 1 else None

    async def _fetch_unless_cooling(self, *, wait: bool) -> None:
        if self._fetching is None:
            if self._clock() < self._next_fetch_at:
                return
            self._next_fetch_at = self._clock() + self._config.refetch_cooldown
            self._fetching = asyncio.create_task(self._fetch())
        if wait:
            # Shielded: a caller who hangs up must not take the keys away from the others.
            await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            self._keys = await self._download()
        except FetchError as error:
            self._failure = error
            _log.warning("cannot fetch the keys of the OIDC issuer: %s", error)
        else:
            self._failure = None
            self._fetched_at = self._clock()
        finally:
            self._fetching = None

    async def _download(self) -> list[Key]:
        issuer = self._config.issuer
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        metadata = await get_json(self._client, url)
        if metadata.get("issuer") != issuer:
            raise WrongIssuerError(f"{url}: the issuer calls itself {metadata.get('issuer')!r}")
        self._metadata = metadata
        keys_url = metadata.get("jwks_uri")
        if not isinstance(keys_url, str) or not is_safe(keys_url, issuer):
            raise FetchError(f"{url}: jwks_uri is not acceptable: {keys_url!r}")
        entries = (await get_json(self._client, keys_url)).get("keys")
        if not isinstance(entries, list):
            raise FetchError(f"{keys_url}: there is no list of keys")
        keys = [key for key in map(_import, entries) if key is not None]
        if not keys:
            raise FetchError(f"{keys_url}: no usable key")
        return keys


def _import(entry: Any) -> Key | None:
    """A public key; None if it is not one we would trust a signature of."""
    try:
        with warnings.catch_warnings():
            # The library warns of RSA keys that are too short to trust.
            warnings.simplefilter("error", SecurityWarning)
            key = import_key(entry)
    except Exception as error:  # whatever is wrong with one key, the others remain good
        _log.info("ignoring a key of the OIDC issuer: %s", error)
        return None
    return key if key.key_type in {"RSA", "EC", "OKP"} else None


def _fits(key: Key, algorithm: str) -> bool:
    try:
        algorithm_model(algorithm).check_key(key)
    except JoseError:
        return False
    return True
