"""The provider: from bearer credential to principal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from inferflux_auth_oidc.config import OIDCConfig, check
from inferflux_auth_oidc.issuer import Issuer
from inferflux_auth_oidc.token import Token, is_opaque, read_token
from inferflux_core.auth import Principal
from inferflux_core.errors import AuthenticationError, AuthenticationUnavailableError

__all__ = ["OIDCProvider"]


class OIDCProvider:
    """Accepts access tokens that a configured issuer made for this service.

    Every signed token is checked in full on every request: there is no cache to poison or to go stale.
    What the issuer says about opaque ones is remembered for a moment.

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
        self._issuers = {
            # Two issuers may both know an `ada`: limits and audit log tell them apart by this name.
            one.issuer: Issuer(
                one, "oidc" if one is config else f"oidc:{one.issuer}", wall_clock, clock
            )
            for _, one in config.all()
        }

    async def start(self) -> None:
        """Fetch the issuers' keys; if one cannot be reached, warn and try again later.

        Raises:
            ConfigError: an issuer answers and gives another name for itself.
        """
        await asyncio.gather(*(issuer.start() for issuer in self._issuers.values()))

    async def stop(self) -> None:
        """Release connections and tasks."""
        for issuer in self._issuers.values():
            await issuer.stop()

    async def authenticate(self, credential: str) -> Principal | None:
        """Return the caller, or None if the credential is no token of these issuers.

        Raises:
            AuthenticationError: it claims to be one and is not valid.
            AuthenticationUnavailableError: it cannot be checked just now.
        """
        token = read_token(credential)
        if token is None:
            return await self._introspect(credential) if is_opaque(credential) else None
        issuer = self._issuer_of(token)
        return None if issuer is None else await issuer.verify(token)

    def _issuer_of(self, token: Token) -> Issuer | None:
        name = token.claims.get("iss")
        if not isinstance(name, str):
            raise AuthenticationError("The access token comes from another issuer.")
        return self._issuers.get(name)

    async def _introspect(self, credential: str) -> Principal | None:
        """Ask one issuer after another; one that is silent does not keep the next from knowing."""
        silent: AuthenticationUnavailableError | None = None
        for issuer in self._issuers.values():
            try:
                principal = await issuer.introspect(credential)
            except AuthenticationUnavailableError as error:
                silent = error
            else:
                if principal is not None:
                    return principal
        if silent is not None:
            raise silent
        return None
