"""Asking the provider about tokens that say nothing by themselves (RFC 7662)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote_plus

import httpx2

from inferflux_auth_oidc.claims import END_OF_TIME, Claims
from inferflux_auth_oidc.config import IntrospectionConfig, is_safe
from inferflux_auth_oidc.fetch import FetchError, post_form
from inferflux_auth_oidc.keys import IssuerKeys
from inferflux_core.breaker import Breaker
from inferflux_core.errors import AuthenticationUnavailableError

__all__ = ["Introspection"]

_log = logging.getLogger(__name__)

_CACHE_SIZE: Final = 4096
_QUESTIONS: Final = 16
"""Questions at a time, however many callers make up tokens."""


class Introspection:
    """Knows what the provider says about a token, for a moment.

    Args:
        config: how to ask.
        issuer: whom.
        keys: know the discovery document.
        client: to ask with.
        wall_clock: Unix time in seconds.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        config: IntrospectionConfig,
        issuer: str,
        keys: IssuerKeys,
        client: httpx2.AsyncClient,
        wall_clock: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._issuer = issuer
        self._keys = keys
        self._client = client
        self._wall_clock = wall_clock
        self._clock = clock
        self._breaker = Breaker(clock)
        self._slots = asyncio.Semaphore(_QUESTIONS)
        # Until when an answer holds, by the SHA-256 of the whole token.
        self._answers: OrderedDict[bytes, tuple[float, Claims]] = OrderedDict()
        # RFC 6749 has both encoded before they are put together.
        self._auth = (quote_plus(config.client_id), quote_plus(config.client_secret))

    async def claims(self, token: str) -> Claims | None:
        """What the provider says about a token; None if it does not know it, or no more.

        Raises:
            AuthenticationUnavailableError: the provider does not say.
        """
        key = hashlib.sha256(token.encode()).digest()
        if (known := self._recall(key)) is not None:
            return known
        try:
            async with asyncio.timeout(self._config.timeout):
                await self._slots.acquire()
        except TimeoutError:
            raise _unavailable() from None
        try:
            # Those who waited with the same token need not ask again.
            return self._recall(key) or await self._ask(key, token)
        finally:
            self._slots.release()

    def _recall(self, key: bytes) -> Claims | None:
        until, claims = self._answers.get(key, (0.0, None))
        return claims if self._clock() < until else None

    async def _ask(self, key: bytes, token: str) -> Claims | None:
        if not self._breaker.admits():
            raise _unavailable()
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            url = await self._endpoint()
            answer = await post_form(self._client, url, form, self._auth, self._config.timeout)
            active = answer.get("active")
            if not isinstance(active, bool):
                raise FetchError(f"{url}: the answer does not say whether the token is active")
        except FetchError as error:
            self._breaker.failed()
            _log.warning("cannot introspect a token: %s", error)
            raise _unavailable() from error
        self._breaker.succeeded()
        if not active or not _is_access_token(answer):
            return None
        # A token that stands for a client, not a user, may come without a subject.
        claims = {"iss": self._issuer, "sub": answer.get("client_id"), **answer}
        self._remember(key, claims)
        return claims

    async def _endpoint(self) -> str:
        if self._config.endpoint is not None:
            return self._config.endpoint
        url = (await self._keys.metadata()).get("introspection_endpoint")
        if not isinstance(url, str) or not is_safe(url, self._issuer):
            raise FetchError(f"{self._issuer}: introspection_endpoint is not acceptable: {url!r}")
        return url

    def _remember(self, key: bytes, claims: Claims) -> None:
        expires = claims.get("exp")
        if not isinstance(expires, int | float) or not 0 <= expires < END_OF_TIME:
            return
        seconds = min(self._config.cache_seconds, expires - self._wall_clock())
        self._answers[key] = (self._clock() + seconds, claims)
        self._answers.move_to_end(key)
        if len(self._answers) > _CACHE_SIZE:
            self._answers.popitem(last=False)


def _is_access_token(answer: dict[str, Any]) -> bool:
    """Providers know refresh tokens, too, and give no type for them, or their own."""
    kind = answer.get("token_type")
    return isinstance(kind, str) and kind.lower() in {"bearer", "access_token"}


def _unavailable() -> AuthenticationUnavailableError:
    return AuthenticationUnavailableError(
        "Access tokens cannot be checked at the moment; try again later.", retry_after=5
    )
