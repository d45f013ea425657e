"""A document under a passphrase: AES-256-GCM with a fresh key, wrapped by one that Argon2id derives.

    "IFPS" | u8 version | u32 size, header | u16 size, wrapped key | u64 size, body | SHA-256

The header is JSON and public; wrapped key and body are a 12-byte nonce and what AES-GCM yields, bound
to their purpose and to every byte before them. Sizes are big-endian. The SHA-256 of all that precedes
it has no secret: it only tells a damaged file from a wrong passphrase. Parameters of Argon2id follow
the second choice of RFC 9106; those of a file are bounded before they are used.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from msgspec import Meta

from inferflux_core.errors import ConfigError

__all__ = ["MAGIC", "Sealer", "WrongPassphraseError"]

MAGIC: Final = b"IFPS"
_VERSION: Final = 1
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_MOST_SALTS: Final = 16
_HEADER_SIZE, _KEY_SIZE, _BODY_SIZE = ">I", ">H", ">Q"


class WrongPassphraseError(ConfigError):
    """The data is whole, and was sealed with another passphrase."""


class _Kdf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    n: Literal["argon2id"] = "argon2id"
    m: Annotated[int, Meta(ge=19 * 1024, le=1024 * 1024)] = 64 * 1024  # KiB
    t: Annotated[int, Meta(ge=1, le=10)] = 3
    p: Annotated[int, Meta(ge=1, le=16)] = 4
    salt: Annotated[bytes, Meta(min_length=16, max_length=16)]


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    """Later releases may add fields: an older one ignores them, and still authenticates them."""

    kdf: _Kdf
    alg: Literal["AES-256-GCM"] = "AES-256-GCM"
    kid: Annotated[bytes, Meta(min_length=8, max_length=8)]
    store: str
    gen: int


class Sealer:
    """Seals documents under a passphrase, and opens those that were sealed under it.

    What it seals shares the salt of what it opened last, so that a store that changes often, or has a
    long history, costs one derivation; every document has a key of its own all the same.
    """

    def __init__(self, passphrase: str) -> None:
        self._passphrase = passphrase
        self._kdf = _Kdf(salt=os.urandom(16))
        self._wrapping_keys: dict[_Kdf, bytes] = {}

    def seal(self, document: bytes, *, store: str, generation: int) -> bytes:
        """Seal a document; `store` and `generation` can be read by anybody and changed by nobody."""
        wrapping_key = self._derive(self._kdf)
        header = msgspec.json.encode(
            _Header(kdf=self._kdf, kid=_key_check(wrapping_key), store=store, gen=generation)
        )
        data = MAGIC + bytes([_VERSION]) + _sized(_HEADER_SIZE, header)
        key = AESGCM.generate_key(8 * _KEY_BYTES)
        data += _sized(_KEY_SIZE, _encrypt(wrapping_key, key, b"dek" + data))
        data += _sized(_BODY_SIZE, _encrypt(key, document, b"body" + data))
        return data + hashlib.sha256(data).digest()

    def unseal(self, data: bytes) -> bytes:
        """The document.

        Raises:
            WrongPassphraseError: it was sealed with another passphrase.
            ConfigError: the data is damaged, altered or of a later version.
        """
        if data[len(MAGIC) : len(MAGIC) + 1] != bytes([_VERSION]):
            raise ConfigError("has an unknown version", hint="use the release that wrote it")
        content, checksum = data[:-32], data[-32:]
        if hashlib.sha256(content).digest() != checksum:
            raise ConfigError("is damaged or incomplete", hint="restore it from a backup")
        try:
            return self._unseal(content)
        except (struct.error, ValueError, InvalidTag) as error:
            # The checksum fits, so this is no accident.
            raise ConfigError("has been altered", hint="restore it from a backup") from error

    def _unseal(self, content: bytes) -> bytes:
        encoded, header_end = _take(_HEADER_SIZE, content, len(MAGIC) + 1)
        wrapped, key_end = _take(_KEY_SIZE, content, header_end)
        body, end = _take(_BODY_SIZE, content, key_end)
        if end != len(content):
            raise ValueError("there is something behind the body")
        header = msgspec.json.decode(encoded, type=_Header)
        wrapping_key = self._derive(header.kdf)
        if not hmac.compare_digest(_key_check(wrapping_key), header.kid):
            raise WrongPassphraseError(
                "was sealed with another passphrase", hint="check INFERFLUX_POLICY_PASSPHRASE"
            )
        key = _decrypt(wrapping_key, wrapped, b"dek" + content[:header_end])
        document = _decrypt(key, body, b"body" + content[:key_end])
        self._kdf = header.kdf
        return document

    def _derive(self, kdf: _Kdf) -> bytes:
        known = self._wrapping_keys.get(kdf)
        if known is not None:
            return known
        derivation = Argon2id(
            salt=kdf.salt, length=_KEY_BYTES, iterations=kdf.t, lanes=kdf.p, memory_cost=kdf.m
        )
        # As the bytes of the environment variable, whatever the locale.
        wrapping_key = derivation.derive(os.fsencode(self._passphrase))
        if len(self._wrapping_keys) >= _MOST_SALTS:
            self._wrapping_keys.clear()
        self._wrapping_keys[kdf] = wrapping_key
        return wrapping_key


def _key_check(wrapping_key: bytes) -> bytes:
    return hmac.digest(wrapping_key, b"kcv", hashlib.sha256)[:8]


def _encrypt(key: bytes, plain: bytes, bound_to: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound_to)


def _decrypt(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)


def _sized(size_format: str, part: bytes) -> bytes:
    return struct.pack(size_format, len(part)) + part


def _take(size_format: str, content: bytes, at: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(size_format, content, at)
    start = at + struct.calcsize(size_format)
    if start + size > len(content):
        raise ValueError("a part is cut off")
    return content[start : start + size], start + size
