"""One issuer, and what it takes to believe its tokens."""

from __future__ import annotations

from collections.abc import Callable

import httpx2

from inferflux_auth_oidc.claims import check_kind, principal_of
from inferflux_auth_oidc.config import IssuerConfig, is_loopback
from inferflux_auth_oidc.introspection import Introspection
from inferflux_auth_oidc.keys import IssuerKeys
from inferflux_auth_oidc.token import Token, verify_signature
from inferflux_core.auth import Principal
from inferflux_core.errors import AuthenticationError, AuthenticationUnavailableError

__all__ = ["Issuer"]


class Issuer:
    """Checks tokens of one issuer.

    Args:
        config: whose tokens, and what they must say.
        provider: names it in principals, so that subjects of two issuers are told apart.
        wall_clock: Unix time in seconds.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        config: IssuerConfig,
        provider: str,
        wall_clock: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._provider = provider
        self._wall_clock = wall_clock
        # A proxy stands between this machine and others, not between it and itself.
        self._client = httpx2.AsyncClient(trust_env=not is_loopback(config.issuer))
        self._keys = IssuerKeys(config, self._client, clock)
        self._introspection: Introspection | None = None
        if config.introspection is not None:
            self._introspection = Introspection(
                config.introspection, config.issuer, self._keys, self._client, wall_clock, clock
            )

    async def start(self) -> None:
        """Fetch the issuer's keys; if it cannot be reached, warn and try again later.

        Raises:
            ConfigError: the issuer answers and gives another name for itself.
        """
        await self._keys.start()

    async def stop(self) -> None:
        """Drop what is under way and close connections."""
        await self._keys.stop()
        await self._client.aclose()

    async def verify(self, token: Token) -> Principal:
        """The bearer of a signed token.

        Raises:
            AuthenticationError: the token is not valid.
            AuthenticationUnavailableError: there are no keys to tell.
        """
        algorithm = self._algorithm(token)
        key_id = token.header.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            raise AuthenticationError("The access token names its key in an unusable way.")
        key = await self._keys.find(key_id, algorithm)
        if key is None and not self._keys.available:
            raise AuthenticationUnavailableError(
                "Access tokens cannot be checked at the moment; try again later.", retry_after=30
            )
        if key is None:
            raise AuthenticationError(
                "The access token is signed with an unknown key; request a new one."
            )
        verify_signature(token, key, algorithm)
        check_kind(token.header, token.claims)
        return principal_of(token.claims, self._config, self._wall_clock(), self._provider)

    async def introspect(self, credential: str) -> Principal | None:
        """The bearer of an opaque token; None if the issuer does not know it, or is not asked.

        Raises:
            AuthenticationError: the token is not for this service.
            AuthenticationUnavailableError: the issuer does not say.
        """
        if self._introspection is None:
            return None
        if (claims := await self._introspection.claims(credential)) is None:
            return None
        return principal_of(claims, self._config, self._wall_clock(), self._provider)

    def _algorithm(self, token: Token) -> str:
        algorithm = token.header["alg"]
        if not isinstance(algorithm, str) or algorithm not in self._config.algorithms:
            raise AuthenticationError("The access token is signed in a way that is not accepted.")
        if "crit" in token.header:
            raise AuthenticationError("The access token demands an extension that is unknown.")
        return algorithm
