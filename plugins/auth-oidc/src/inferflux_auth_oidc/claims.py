"""What a token with a good signature says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from inferflux_auth_oidc.config import OIDCConfig
from inferflux_core.auth import SCOPES, Principal
from inferflux_core.errors import AuthenticationError

__all__ = ["principal_of"]

END_OF_TIME: Final = 253_402_300_800
"""1 January 10000 in Unix seconds; a later date is a mistake or an attempt to live forever."""

Claims = Mapping[str, Any]


def principal_of(claims: Claims, config: OIDCConfig, now: float) -> Principal:
    """Check all claims and name the caller.

    Args:
        claims: the payload of a token whose signature is verified.
        config: what is expected.
        now: Unix time in seconds.

    Raises:
        AuthenticationError: a claim is missing, malformed or does not hold.
    """
    if claims.get("iss") != config.issuer:
        raise AuthenticationError("The access token comes from another issuer.")
    if config.audience not in _words(claims, "aud", separator=None):
        raise AuthenticationError("The access token was issued for another service.")
    _check_times(claims, config.leeway, now)
    tenant = "default" if config.tenant_claim is None else _text(claims, config.tenant_claim)
    return Principal(
        subject=_text(claims, "sub"),
        scopes=_scopes(claims, config),
        tenant=tenant,
        provider="oidc",
    )


def _check_times(claims: Claims, leeway: float, now: float) -> None:
    if _time(claims, "exp") <= now - leeway:
        raise AuthenticationError("The access token has expired; request a new one.")
    begins = max(_time(claims, name) for name in ("iat", "nbf") if name == "iat" or name in claims)
    if begins > now + leeway:
        raise AuthenticationError("The access token is not valid yet; check the clocks.")


def _scopes(claims: Claims, config: OIDCConfig) -> frozenset[str]:
    """Scopes of this service; what other services call theirs is none of ours."""
    if config.scope_claim not in claims:
        return frozenset()
    prefix = config.scope_prefix
    words = _words(claims, config.scope_claim, separator=" ")
    return SCOPES & {word.removeprefix(prefix) for word in words if word.startswith(prefix)}


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name)
    # `True` is an int in Python.
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _malformed(name)
    if not 0 <= value < END_OF_TIME:
        raise _malformed(name)
    return float(value)


def _text(claims: Claims, name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value or len(value) > 255:
        raise _malformed(name)
    return value


def _words(claims: Claims, name: str, *, separator: str | None) -> list[str]:
    """A claim that is a string, split at `separator` if given, or a list of strings."""
    value = claims.get(name)
    if isinstance(value, str):
        return [value] if separator is None else value.split(separator)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise _malformed(name)


def _malformed(name: str) -> AuthenticationError:
    return AuthenticationError(f"The access token has no usable claim `{name}`.")
