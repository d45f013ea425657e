"""What an operator can set under `auth.oidc`."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from inferflux_core.errors import ConfigError

__all__ = ["ALGORITHMS", "OIDCConfig", "check", "is_loopback"]

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    | {"ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Signatures that only the issuer can make: no `none`, no `HS*`."""

Seconds = Annotated[float, Meta(ge=1)]


class OIDCConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose tokens are accepted, and what they say.

    Attributes:
        issuer: URL of the provider, exactly as tokens and the discovery document spell it.
        audience: the name of this service in `aud`.
        algorithms: accepted signature algorithms.
        leeway: seconds by which the clocks of provider and server may differ.
        scope_claim: claim with the scopes, a string of words or a list of strings.
        scope_prefix: what precedes a scope of this service; only scopes with it count.
        tenant_claim: claim with the tenant; without it everybody is in tenant `default`.
        refresh_interval: seconds after which the issuer's keys are fetched again.
        refetch_cooldown: seconds between two fetches, at least.
        max_stale: seconds for which keys remain good while fetching them fails.
    """

    issuer: str
    audience: str
    algorithms: list[str] = msgspec.field(default_factory=lambda: ["RS256", "ES256", "EdDSA"])
    leeway: Annotated[float, Meta(ge=0, le=600)] = 60
    scope_claim: str = "scope"
    scope_prefix: str = ""
    tenant_claim: str | None = None
    refresh_interval: Seconds = 300
    refetch_cooldown: Seconds = 30
    max_stale: Seconds = 86_400


def check(config: OIDCConfig) -> None:
    """Refuse what could never work or would not be safe.

    Raises:
        ConfigError: the audience is empty, the issuer is no https URL (or http on the loopback
            interface), or an algorithm does not prove who signed.
    """
    if not config.audience:
        raise ConfigError(
            "auth.oidc.audience is empty",
            hint="Set it, or INFERFLUX_OIDC_AUDIENCE, to the name of this service in `aud`.",
        )
    if not _is_issuer(config.issuer):
        raise ConfigError(
            f"auth.oidc.issuer is not acceptable: {config.issuer!r}",
            hint="Give an https URL without query; http is accepted for 127.0.0.1 and localhost.",
        )
    refused = [name for name in config.algorithms if name not in ALGORITHMS]
    if refused or not config.algorithms:
        raise ConfigError(
            f"auth.oidc.algorithms: {', '.join(refused) or 'empty'}",
            hint=f"Choose from {', '.join(sorted(ALGORITHMS))}.",
        )


def is_loopback(url: str) -> bool:
    """Whether `url` is http on this very machine, where nobody listens in."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http":
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_issuer(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port != 0
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    secure = parts.scheme == "https" or is_loopback(url)
    return secure and plain and port_is_valid and bool(parts.hostname)
