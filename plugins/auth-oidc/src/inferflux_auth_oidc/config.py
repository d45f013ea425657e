"""What an operator can set under `auth.oidc`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from inferflux_core.auth import Scope
from inferflux_core.errors import ConfigError

__all__ = [
    "ALGORITHMS",
    "IntrospectionConfig",
    "IssuerConfig",
    "OIDCConfig",
    "check",
    "is_loopback",
    "is_safe",
]

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    | {"ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Signatures that only the issuer can make: no `none`, no `HS*`."""

Seconds = Annotated[float, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts below."""


class IntrospectionConfig(Section, frozen=True):
    """Asking the provider about tokens that are no JWTs (RFC 7662).

    Attributes:
        client_id: by which the provider knows this server.
        client_secret: its password there; better `${env:NAME}` than the password itself.
        endpoint: URL to ask; null takes the one of the discovery document.
        cache_seconds: for which a good answer holds; a token that is revoked stops after as many.
        timeout: seconds for one question.
    """

    client_id: Name
    client_secret: Name
    endpoint: str | None = None
    cache_seconds: Annotated[float, Meta(ge=0, le=5)] = 1.0
    timeout: Annotated[float, Meta(gt=0, le=10)] = 2.0

    def __repr__(self) -> str:
        """Leave the secret out: a representation ends up in logs."""
        return f"IntrospectionConfig(client_id={self.client_id!r}, endpoint={self.endpoint!r})"


class IssuerConfig(Section, frozen=True):
    """Whose tokens are accepted, and what they say.

    A claim may be one inside another: `realm_access.roles`.

    Attributes:
        issuer: URL of the provider, exactly as tokens and the discovery document spell it.
        audience: the name of this service in `aud`.
        algorithms: accepted signature algorithms.
        leeway: seconds by which the clocks of provider and server may differ.
        scope_claim: claim with the scopes, a string of words or a list of strings.
        scope_prefix: what precedes a scope of this service; only scopes with it count.
        scope_map: the scopes that a value of that claim stands for; null takes values as scopes.
        role_claim: claim with roles of the server, in the same form; null means that tokens name none.
        role_map: the roles that a value of that claim stands for; null takes values as roles.
        tenant_claim: claim with the tenant; null puts everybody into `tenant`.
        tenant: see there.
        refresh_interval: seconds after which the issuer's keys are fetched again.
        refetch_cooldown: seconds between two fetches, at least.
        max_stale: seconds for which keys remain good while fetching them fails.
        introspection: how to ask about opaque tokens; null means that they are not accepted.
    """

    issuer: str
    audience: str
    algorithms: list[str] = msgspec.field(default_factory=lambda: ["RS256", "ES256", "EdDSA"])
    leeway: Annotated[float, Meta(ge=0, le=600)] = 60
    scope_claim: Name = "scope"
    scope_prefix: str = ""
    scope_map: dict[str, list[Scope]] | None = None
    role_claim: Name | None = None
    role_map: dict[str, list[str]] | None = None
    tenant_claim: Name | None = None
    tenant: Annotated[str, Meta(min_length=1, max_length=255)] = "default"
    refresh_interval: Seconds = 300
    refetch_cooldown: Seconds = 30
    max_stale: Seconds = 86_400
    introspection: IntrospectionConfig | None = None


class OIDCConfig(IssuerConfig, frozen=True):
    """One issuer, and perhaps more of them, each with all options of its own.

    Attributes:
        issuers: the others.
    """

    issuers: list[IssuerConfig] = []

    def all(self) -> Iterator[tuple[str, IssuerConfig]]:
        """Yield every issuer after the path of its section, that of `auth.oidc` first."""
        yield "auth.oidc", self
        for index, issuer in enumerate(self.issuers):
            yield f"auth.oidc.issuers[{index}]", issuer


def check(config: OIDCConfig) -> None:
    """Refuse what could never work or would not be safe.

    Raises:
        ConfigError: an audience is empty, an issuer is no https URL (or http on the loopback
            interface) or there twice, an algorithm does not prove who signed, or the address for
            introspection is not safe.
    """
    first: dict[str, str] = {}
    for path, issuer in config.all():
        _check_issuer(path, issuer)
        if (earlier := first.setdefault(issuer.issuer, path)) != path:
            raise ConfigError(
                f"{path}.issuer: the same as {earlier}.issuer", hint="Remove one of the two."
            )


def is_loopback(url: str) -> bool:
    """Whether `url` is http on this very machine, where nobody listens in."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    if parts.scheme != "http":
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_safe(url: object, issuer: str) -> bool:
    """Whether `url` may be visited on behalf of an issuer: https, or loopback if the issuer is there."""
    if not isinstance(url, str):
        return False
    return url.startswith("https://") or (is_loopback(url) and is_loopback(issuer))


def _check_issuer(path: str, config: IssuerConfig) -> None:
    if not config.audience:
        variable = ", or INFERFLUX_OIDC_AUDIENCE," if path == "auth.oidc" else ""
        raise ConfigError(
            f"{path}.audience is empty",
            hint=f"Set it{variable} to the name of this service in `aud`.",
        )
    if not _is_issuer(config.issuer):
        raise ConfigError(
            f"{path}.issuer is not acceptable: {config.issuer!r}",
            hint="Give an https URL without query; http is accepted for 127.0.0.1 and localhost.",
        )
    refused = [name for name in config.algorithms if name not in ALGORITHMS]
    if refused or not config.algorithms:
        raise ConfigError(
            f"{path}.algorithms: {', '.join(refused) or 'empty'}",
            hint=f"Choose from {', '.join(sorted(ALGORITHMS))}.",
        )
    asked = config.introspection
    if (
        asked is not None
        and asked.endpoint is not None
        and not _is_endpoint(asked.endpoint, config)
    ):
        raise ConfigError(
            f"{path}.introspection.endpoint is not acceptable: {asked.endpoint!r}",
            hint="Give an https URL; http is accepted on this machine, if the issuer is there too.",
        )


def _is_endpoint(url: str, config: IssuerConfig) -> bool:
    return _is_plain(url) and is_safe(url, config.issuer)


def _is_issuer(url: str) -> bool:
    return _is_plain(url) and is_safe(url, url) and not urlsplit(url).query


def _is_plain(url: str) -> bool:
    """Whether it names a host, and holds no credentials or fragment."""
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port != 0
    except ValueError:
        return False
    plain = not (parts.fragment or parts.username or parts.password)
    return plain and port_is_valid and bool(parts.hostname)
