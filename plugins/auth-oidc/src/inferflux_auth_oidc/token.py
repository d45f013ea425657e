"""Reading a token, and checking who signed it."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import Key
from joserfc.jws import JWSRegistry

from inferflux_core.errors import AuthenticationError

__all__ = ["Token", "algorithm_model", "read_token", "verify_signature"]

MAX_LENGTH: Final = 16_384
_COMPACT_JWS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it came; nothing in it is trusted until its signature is verified.

    Attributes:
        text: the compact form.
        header: `alg`, `kid` and so on.
        claims: the payload.
    """

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]


def read_token(credential: str) -> Token | None:
    """Take a credential apart; None if it is no JWT.

    Raises:
        AuthenticationError: it is one, and it is damaged or too long.
    """
    if not _COMPACT_JWS.fullmatch(credential):
        return None
    header_part, claims_part, _ = credential.split(".")
    header = _decode(header_part)
    if header is None or "alg" not in header:
        return None
    claims = _decode(claims_part)
    if claims is None or len(credential) > MAX_LENGTH:
        raise AuthenticationError("The access token is damaged or too long; request a new one.")
    return Token(credential, header, claims)


def verify_signature(token: Token, key: Key, algorithm: str) -> None:
    """Check that `key` signed exactly this token.

    Raises:
        AuthenticationError: it did not.
    """
    try:
        jws.deserialize_compact(token.text, key, registry=_Registry(algorithms=[algorithm]))
    except (JoseError, ValueError, RecursionError):
        raise AuthenticationError("The signature of the access token is not valid.") from None


def algorithm_model(name: str) -> JWSAlgModel:
    """What the library knows about a signature algorithm."""
    return JWSRegistry.algorithms[name]


class _Registry(JWSRegistry):
    """The library's rules, for tokens of real providers."""

    max_header_length = MAX_LENGTH

    def __init__(self, algorithms: list[str]) -> None:
        # Providers add headers of their own; those that demand to be understood are refused earlier.
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> JWSAlgModel:
        """As inherited, without a warning for each token that says `EdDSA` (renamed by RFC 9864)."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError
        return algorithm_model(name)


def _decode(part: str) -> dict[str, Any] | None:
    """A part of a token as a JSON object; None if it is none."""
    try:
        return msgspec.json.decode(urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=dict)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
