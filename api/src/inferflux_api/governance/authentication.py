"""From credentials to principals, and from principals to permissions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers.base import BaseRouteHandler
from litestar.routes import HTTPRoute

from inferflux_api.governance.audit.actions import CURRENT
from inferflux_api.governance.policy.document import (
    Policy,
    PolicyKey,
    PolicyTenant,
    credential_digest,
    new_policy,
    scopes_of,
)
from inferflux_core.auth import SCOPES, AuthProvider, Principal
from inferflux_core.config import API_KEYS
from inferflux_core.config.schema import ApiKeyConfig
from inferflux_core.errors import AuthenticationError, PermissionDeniedError

__all__ = [
    "PUBLIC",
    "Access",
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
    """The keys of the configuration and those of the policy.

    Keeps keyed hashes only, all with the pepper of the policy, and finds keys by hash.

    Args:
        keys: of the configuration.
        policy: in force.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        keys: Sequence[ApiKeyConfig],
        policy: Policy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        policy = policy or new_policy()
        self._clock = clock
        self._pepper = policy.pepper
        self._by_digest = {key.digest: _principal_of(key) for key in policy.api_keys}
        for index, key in enumerate(keys):
            digest = credential_digest(self._pepper, key.key)
            self._by_digest[digest] = Principal(
                subject=key.name or f"key-{index}",
                scopes=frozenset(key.scopes),
                tenant=key.tenant,
                provider=API_KEYS,
                roles=frozenset(key.roles),
            )
        self._by_name = {(p.subject, p.tenant): p for p in self._by_digest.values()}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_digest)

    def find(self, credential: str) -> Principal | None:
        """The key's principal, or None.

        Raises:
            AuthenticationError: it has expired.
        """
        # The dictionary is searched by keyed hash, so timing says nothing about any key.
        return self._lasting(self._by_digest.get(credential_digest(self._pepper, credential)))

    def again(self, principal: Principal) -> Principal | None:
        """The principal of a key that was found before, as the key is now.

        Raises:
            AuthenticationError: it has expired.
        """
        return self._lasting(self._by_name.get((principal.subject, principal.tenant)))

    def _lasting(self, principal: Principal | None) -> Principal | None:
        if principal and principal.expires_at and principal.expires_at <= self._clock():
            raise AuthenticationError("the API key has expired")
        return principal


@dataclass(frozen=True, slots=True)
class Access:
    """What the policy in force says of callers.

    Attributes:
        keys: that are known.
        roles: the scopes they stand for.
        tenants: by name, where something is said of them.
    """

    keys: ApiKeys
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tenants: Mapping[str, PolicyTenant] = field(default_factory=dict)

    def complete(self, principal: Principal) -> Principal:
        """A principal with the scopes of its roles, and what its tenant may not.

        Raises:
            PermissionDeniedError: its tenant may nothing.
        """
        if principal.roles:
            scopes = scopes_of(principal.scopes, principal.roles, self.roles)
            principal = replace(principal, scopes=scopes)
        tenant = self.tenants.get(principal.tenant)
        if tenant is None:
            return principal
        if tenant.disabled:
            raise PermissionDeniedError(f"the tenant '{principal.tenant}' is disabled")
        if tenant.models is None:
            return principal
        models = frozenset(tenant.models)
        if principal.models is not None:
            models &= principal.models
        return replace(principal, models=models)


class Authenticator:
    """Asks the providers in order.

    Attributes:
        access: what the policy says; may be replaced at any time, and holds from the next request on.

    Args:
        providers: by name; None stands for the API keys of `access`.
        access: see above.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        providers: Sequence[AuthProvider | None],
        access: Access,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._providers = providers
        self._clock = clock
        self.access = access

    async def start(self) -> None:
        """Start every provider."""
        for provider in self._providers:
            if provider is not None:
                await provider.start()

    async def stop(self) -> None:
        """Stop every provider."""
        for provider in self._providers:
            if provider is not None:
                await provider.stop()

    async def authenticate(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
        """The principal behind a request.

        Raises:
            AuthenticationError: there is no credential, or nobody accepts it.
            PermissionDeniedError: see `Access.complete`.
        """
        headers = connection.headers
        given = credential_of(headers.getall("authorization", []), headers.get("x-api-key", ""))
        return await self.identify(given)

    async def identify(self, credential: str) -> Principal:
        """The principal behind a credential.

        Raises:
            AuthenticationError: nobody accepts it.
            PermissionDeniedError: see `Access.complete`.
        """
        for provider in self._providers:
            principal = (
                self.access.keys.find(credential)
                if provider is None
                else await provider.authenticate(credential)
            )
            if principal is not None:
                # Of now: the policy may have changed while a provider asked somebody else.
                return self.access.complete(principal)
        raise AuthenticationError("the API key is not valid")

    def renew(self, principal: Principal) -> Principal:
        """A principal who was identified earlier, with what it may do now.

        Connections and jobs outlive a request, and must not outlive a key.

        Raises:
            AuthenticationError: its key was taken back, or what vouched for it has expired.
            PermissionDeniedError: see `Access.complete`.
        """
        if principal.provider == API_KEYS:
            found = self.access.keys.again(principal)
            if found is None:
                raise AuthenticationError("the API key is not valid any more")
            return self.access.complete(found)
        if principal.expires_at is not None and principal.expires_at <= self._clock():
            raise AuthenticationError("the access token has expired; request a new one")
        return self.access.complete(principal)


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


def _principal_of(key: PolicyKey) -> Principal:
    return Principal(
        subject=key.name,
        scopes=frozenset(key.scopes),
        tenant=key.tenant,
        provider=API_KEYS,
        roles=frozenset(key.roles),
        models=None if key.models is None else frozenset(key.models),
        expires_at=key.expires_at,
    )
