"""From credentials to principals, and from principals to permissions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers.base import BaseRouteHandler
from litestar.routes import HTTPRoute

from inferflux_api.governance.audit.actions import CURRENT
from inferflux_api.governance.policy import Policy, credential_digest, new_policy
from inferflux_core.auth import SCOPES, AuthProvider, Principal
from inferflux_core.config import API_KEYS
from inferflux_core.config.schema import ApiKeyConfig
from inferflux_core.errors import AuthenticationError, PermissionDeniedError

__all__ = [
    "PUBLIC",
    "ApiKeys",
    "Authenticator",
    "authorise",
    "credential_of",
    "require",
    "scope_of",
]

PUBLIC: Final = "public"
"""Scope of handlers that anybody may call."""

_HOW = "send it as `Authorization: Bearer KEY`"


class ApiKeys:
    """The keys of the configuration and those of the policy store.

    Keeps keyed hashes only, all with the pepper of the store, and compares in constant time.

    Args:
        keys: of the configuration.
        policy: of the store, if there is one.
        roles: scopes by the names that keys of the configuration may give for them.
    """

    def __init__(
        self,
        keys: Sequence[ApiKeyConfig],
        policy: Policy | None = None,
        roles: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        policy = policy or new_policy()
        self._pepper = policy.pepper
        self._principals = {
            key.digest: _principal(key.name, key.scopes, key.tenant) for key in policy.api_keys
        }
        for index, key in enumerate(keys):
            digest = credential_digest(self._pepper, key.key)
            scopes = {*key.scopes, *(s for role in key.roles for s in (roles or {})[role])}
            self._principals[digest] = _principal(key.name or f"key-{index}", scopes, key.tenant)

    async def start(self) -> None:
        """Nothing to fetch."""

    async def authenticate(self, credential: str) -> Principal | None:
        """The key's principal, or None."""
        # The dictionary is searched by keyed hash, so timing says nothing about any key.
        return self._principals.get(credential_digest(self._pepper, credential))

    async def stop(self) -> None:
        """Nothing to release."""


class Authenticator:
    """Asks the configured providers in order."""

    def __init__(self, providers: Sequence[AuthProvider]) -> None:
        self._providers = providers

    async def start(self) -> None:
        """Start every provider."""
        for provider in self._providers:
            await provider.start()

    async def stop(self) -> None:
        """Stop every provider."""
        for provider in self._providers:
            await provider.stop()

    async def authenticate(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
        """The principal behind a request.

        Raises:
            AuthenticationError: there is no credential, or nobody accepts it.
        """
        headers = connection.headers
        given = credential_of(headers.getall("authorization", []), headers.get("x-api-key", ""))
        return await self.identify(given)

    async def identify(self, credential: str) -> Principal:
        """The principal behind a credential.

        Raises:
            AuthenticationError: nobody accepts it.
        """
        for provider in self._providers:
            principal = await provider.authenticate(credential)
            if principal is not None:
                return principal
        raise AuthenticationError("the API key is not valid")


def scope_of(handler: BaseRouteHandler) -> str:
    """The scope a handler asks for.

    Raises:
        LookupError: it names none, or one that does not exist; the server must not start.
    """
    scope = handler.opt.get("scope")
    if scope != PUBLIC and scope not in SCOPES:
        raise LookupError(f"{handler} names no scope; add one of {sorted(SCOPES)} to its opt")
    return str(scope)


async def authorise(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Guard of every route: authenticate, then require the scope that the handler names.

    Raises:
        AuthenticationError: see `Authenticator.authenticate`.
        PermissionDeniedError: the principal lacks the scope.
        AuditUnavailableError: it is an action, and cannot be noted.
        HTTPException: the handler is one that the framework adds by itself, and names none.
    """
    if "scope" not in handler.opt:
        # Pages about the API and answers to OPTIONS: what nobody opened is not there.
        raise _absent(connection)
    scope = scope_of(handler)
    if scope == PUBLIC:
        return
    authenticator: Authenticator = connection.app.state.server.authenticator
    principal = await authenticator.authenticate(connection)
    connection.scope["user"] = principal
    require(principal, scope)
    if (action := CURRENT.get()) is not None:
        action.principal = principal
        # One with a body begins when that is there.
        if "body" not in handler.opt:
            action.begin()


def _absent(connection: ASGIConnection[Any, Any, Any, Any]) -> HTTPException:
    if connection.scope.get("method") != "OPTIONS":
        return NotFoundException()
    template = connection.scope["path_template"]
    routes = [route for route in connection.app.routes if isinstance(route, HTTPRoute)]
    methods = {m for route in routes if route.path_format == template for m in route.methods}
    allowed = ", ".join(sorted(methods - {"OPTIONS"}))
    return MethodNotAllowedException(headers={"allow": allowed})


def require(principal: Principal, scope: str) -> None:
    """Let those through who may do it.

    Raises:
        PermissionDeniedError: the principal lacks the scope.
    """
    if not principal.allows(scope):
        raise PermissionDeniedError(f"this key lacks the scope '{scope}'")


def credential_of(authorization: Sequence[str], api_key: str) -> str:
    """What a caller shows, bearer first.

    Args:
        authorization: every header of that name.
        api_key: the header `x-api-key`, or nothing.

    Raises:
        AuthenticationError: there is no credential, or more than one.
    """
    if len(authorization) > 1:
        raise AuthenticationError("there is more than one Authorization header")
    if authorization:
        kind, _, credential = authorization[0].partition(" ")
        if kind.lower() != "bearer" or not credential.strip():
            raise AuthenticationError(f"the Authorization header holds no bearer key; {_HOW}")
        return credential.strip()
    if not api_key.strip():
        raise AuthenticationError(f"an API key is required; {_HOW}")
    return api_key.strip()


def _principal(subject: str, scopes: Iterable[str], tenant: str) -> Principal:
    return Principal(subject, frozenset(scopes), tenant, API_KEYS)
