"""Reading a token, and checking who signed it."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from joserfc.errors import JoseError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import Key
from joserfc.jws import JWSRegistry

from inferflux_core.errors import AuthenticationError

__all__ = ["Token", "algorithm_model", "is_opaque", "read_token", "verify_signature"]

MAX_LENGTH: Final = 16_384
_COMPACT_JWS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_BEARER: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it came; nothing in it is trusted until its signature is verified.

    Attributes:
        header: `alg`, `kid` and so on.
        claims: the payload.
        signed: what the signature is about.
        signature: see there.
    """

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def read_token(credential: str) -> Token | None:
    """Take a credential apart; None if it is no JWT.

    Raises:
        AuthenticationError: it is one, and it is damaged or too long.
    """
    if not _COMPACT_JWS.fullmatch(credential):
        return None
    signed, _, signature_part = credential.rpartition(".")
    header_part, _, claims_part = signed.partition(".")
    header = _decode_object(header_part)
    if header is None or "alg" not in header:
        return None
    claims, signature = _decode_object(claims_part), _decode(signature_part)
    if claims is None or signature is None or len(credential) > MAX_LENGTH:
        raise AuthenticationError("The access token is damaged or too long; request a new one.")
    return Token(header, claims, signed.encode(), signature)


def is_opaque(credential: str) -> bool:
    """Whether a credential that is no JWT can be a token at all (RFC 6750)."""
    return len(credential) <= MAX_LENGTH and _BEARER.fullmatch(credential) is not None


def verify_signature(token: Token, key: Key, algorithm: str) -> None:
    """Check that `key` signed exactly this token.

    Args:
        token: whose header has been checked.
        key: of the issuer, and fit for the algorithm.
        algorithm: one that is accepted.

    Raises:
        AuthenticationError: it did not.
    """
    try:
        good = algorithm_model(algorithm).verify(token.signed, token.signature, key)
    except (JoseError, ValueError):
        good = False
    if not good:
        raise AuthenticationError("The signature of the access token is not valid.")


def algorithm_model(name: str) -> JWSAlgModel:
    """What the library knows about a signature algorithm."""
    return JWSRegistry.algorithms[name]


def _decode_object(part: str) -> dict[str, Any] | None:
    """A part of a token as a JSON object; None if it is none."""
    try:
        return msgspec.json.decode(_decode(part) or b"", type=dict)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _decode(part: str) -> bytes | None:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return None
