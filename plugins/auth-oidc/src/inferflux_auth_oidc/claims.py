"""What a token with a good signature says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from inferflux_auth_oidc.config import IssuerConfig
from inferflux_core.auth import SCOPES, Principal
from inferflux_core.errors import AuthenticationError

__all__ = ["END_OF_TIME", "Claims", "check_kind", "principal_of"]

END_OF_TIME: Final = 253_402_300_800
"""1 January 10000 in Unix seconds; a later date is a mistake or an attempt to live forever."""

Claims = Mapping[str, Any]

_ACCESS_TOKEN: Final = frozenset({"at+jwt", "application/at+jwt"})
_ANY_TOKEN: Final = frozenset({"jwt", "application/jwt"})
_ID_TOKEN_CLAIMS: Final = frozenset({"nonce", "at_hash", "c_hash"})
_ABSENT: Final = object()


def check_kind(header: Mapping[str, Any], claims: Claims) -> None:
    """Refuse what the issuer signed for another purpose than to call a service.

    RFC 9068 has access tokens say so in their header. Most providers write `JWT`, as in ID tokens; those
    are told by claims that only they have.

    Raises:
        AuthenticationError: it is an ID token, a logout token or the like, or bound to a key.
    """
    kind = header.get("typ", "JWT")
    kind = kind.lower() if isinstance(kind, str) else ""
    declared = kind in _ACCESS_TOKEN
    if not declared and kind not in _ANY_TOKEN:
        raise AuthenticationError("The token is not an access token.")
    if not declared and (not _ID_TOKEN_CLAIMS.isdisjoint(claims) or claims.get("typ") == "ID"):
        raise AuthenticationError("This is an ID token; send the access token.")


def principal_of(claims: Claims, config: IssuerConfig, now: float, provider: str) -> Principal:
    """Check all claims and name the caller.

    Args:
        claims: of a token that the issuer vouches for.
        config: what is expected.
        now: Unix time in seconds.
        provider: who is to be named as the one that vouched.

    Raises:
        AuthenticationError: a claim is missing, malformed or does not hold.
    """
    if claims.get("iss") != config.issuer:
        raise AuthenticationError("The access token comes from another issuer.")
    if config.audience not in _words(claims.get("aud"), "aud", separator=None):
        raise AuthenticationError("The access token was issued for another service.")
    if "cnf" in claims:
        raise AuthenticationError("The access token is bound to a key; request a bearer token.")
    _check_times(claims, config.leeway, now)
    claim = config.tenant_claim
    return Principal(
        subject=_text(claims.get("sub"), "sub"),
        scopes=_scopes(claims, config),
        tenant=config.tenant if claim is None else _text(_find(claims, claim), claim),
        provider=provider,
        roles=_roles(claims, config),
        expires_at=_time(claims, "exp") + config.leeway,
    )


def _check_times(claims: Claims, leeway: float, now: float) -> None:
    if _time(claims, "exp") <= now - leeway:
        raise AuthenticationError("The access token has expired; request a new one.")
    begins = max(_time(claims, name) for name in ("iat", "nbf") if name == "iat" or name in claims)
    if begins > now + leeway:
        raise AuthenticationError("The access token is not valid yet; check the clocks.")


def _scopes(claims: Claims, config: IssuerConfig) -> frozenset[str]:
    """Scopes of this service; what other services call theirs is none of ours."""
    prefix = config.scope_prefix
    words = _names(claims, config.scope_claim)
    named = {word.removeprefix(prefix) for word in words if word.startswith(prefix)}
    return SCOPES & _mapped(named, config.scope_map)


def _roles(claims: Claims, config: IssuerConfig) -> frozenset[str]:
    if config.role_claim is None:
        return frozenset()
    return _mapped(set(_names(claims, config.role_claim)) - {""}, config.role_map)


def _mapped(names: set[str], mapping: Mapping[str, list[Any]] | None) -> frozenset[str]:
    """The names, or what a mapping makes of them."""
    if mapping is None:
        return frozenset(names)
    return frozenset(meant for name in names for meant in mapping.get(name, ()))


def _names(claims: Claims, claim: str) -> list[str]:
    value = _find(claims, claim)
    return [] if value is _ABSENT else _words(value, claim, separator=" ")


def _find(claims: object, path: str) -> Any:
    """A claim of that name, or else one inside another; `_ABSENT` if there is none.

    Names may hold dots, as `https://example.com/roles` does.
    """
    if not isinstance(claims, Mapping):
        return _ABSENT
    if path in claims:
        return claims[path]
    outer, dot, inner = path.partition(".")
    return _find(claims.get(outer), inner) if dot else _ABSENT


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name)
    # `True` is an int in Python.
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _malformed(name)
    if not 0 <= value < END_OF_TIME:
        raise _malformed(name)
    return float(value)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value or len(value) > 255:
        raise _malformed(name)
    return value


def _words(value: object, name: str, *, separator: str | None) -> list[str]:
    """The words of a string, split at `separator` if given, or of a list of strings."""
    if isinstance(value, str):
        return [value] if separator is None else value.split(separator)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise _malformed(name)


def _malformed(name: str) -> AuthenticationError:
    return AuthenticationError(f"The access token has no usable claim `{name}`.")
