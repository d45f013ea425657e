"""The provider: from bearer credential to principal."""

from __future__ import annotations

import time
from collections.abc import Callable

from inferflux_auth_oidc.claims import principal_of
from inferflux_auth_oidc.config import OIDCConfig, check
from inferflux_auth_oidc.keys import IssuerKeys
from inferflux_auth_oidc.token import Token, read_token, verify_signature
from inferflux_core.auth import Principal
from inferflux_core.errors import AuthenticationError

__all__ = ["OIDCProvider"]


class OIDCProvider:
    """Accepts access tokens that the configured issuer signed for this service.

    Every token is checked in full on every request: there is no cache to poison or to go stale.

    Args:
        config: whose tokens, and what they must say.
        wall_clock: Unix time in seconds.
        clock: monotonic time in seconds.

    Raises:
        ConfigError: the configuration could never work or would not be safe.
    """

    def __init__(
        self,
        config: OIDCConfig,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check(config)
        self._config = config
        self._wall_clock = wall_clock
        self._keys = IssuerKeys(config, clock)

    async def start(self) -> None:
        """Fetch the issuer's keys; if it cannot be reached, warn and try again later."""
        await self._keys.start()

    async def stop(self) -> None:
        """Release connections and tasks."""
        await self._keys.stop()

    async def authenticate(self, credential: str) -> Principal | None:
        """Return the caller, or None if the credential is no token of this issuer.

        Raises:
            AuthenticationError: it claims to be one and is not valid.
        """
        token = read_token(credential)
        if token is None or self._is_foreign(token):
            return None
        algorithm = self._algorithm(token)
        key_id = token.header.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            raise AuthenticationError("The access token names its key in an unusable way.")
        key = await self._keys.find(key_id, algorithm)
        if key is None:
            raise AuthenticationError(
                "The access token is signed with an unknown key; request a new one."
                if self._keys.available
                else "Access tokens cannot be checked at the moment; try again later."
            )
        verify_signature(token, key, algorithm)
        return principal_of(token.claims, self._config, self._wall_clock())

    def _is_foreign(self, token: Token) -> bool:
        issuer = token.claims.get("iss")
        return isinstance(issuer, str) and issuer != self._config.issuer

    def _algorithm(self, token: Token) -> str:
        algorithm = token.header["alg"]
        if not isinstance(algorithm, str) or algorithm not in self._config.algorithms:
            raise AuthenticationError("The access token is signed in a way that is not accepted.")
        if "crit" in token.header:
            raise AuthenticationError("The access token demands an extension that is unknown.")
        return algorithm
