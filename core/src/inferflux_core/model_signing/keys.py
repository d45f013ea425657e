"""Keys on elliptic curves, as the OpenSSF format has them. Everything that needs `cryptography` is here."""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate

from inferflux_core.errors import ConfigError

__all__ = ["CURVES", "SigningKey", "TrustedKeys", "read_public_key"]

CURVES: Final[dict[str, type[ec.EllipticCurve]]] = {"p256": ec.SECP256R1, "p384": ec.SECP384R1}
"""Those that new keys can be on; keys on P-521 are read, too."""

_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}
_MAX_BYTES: Final = 64 * 1024
_MAKE: Final = "make a pair of keys with: inferctl models keygen --out FILE"


class TrustedKeys:
    """Public keys whose signatures count.

    Args:
        pems: PEM texts of public keys, or of certificates: of those only the key counts, neither who has
            issued them nor until when.

    Raises:
        ConfigError: one is no such key.
    """

    __slots__ = ("_keys",)

    def __init__(self, pems: Iterable[str]) -> None:
        keys = [_public_key(pem) for pem in pems]
        self._keys = {_key_id(key): key for key in keys}

    @property
    def ids(self) -> list[str]:
        """The SHA-256 of each, as signatures name them."""
        return list(self._keys)

    def signer(self, message: bytes, signature: bytes) -> str | None:
        """The id of the key that has signed a message, None if it is none of these."""
        for key_id, key in self._keys.items():
            try:
                key.verify(signature, message, _algorithm(key))
            except InvalidSignature:
                continue
            return key_id
        return None


class SigningKey:
    """A private key; no object of this module shows it."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def new(cls, curve: str) -> SigningKey:
        """A new key on one of the `CURVES`."""
        return cls(ec.generate_private_key(CURVES[curve]()))

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """The key of a PEM file.

        Raises:
            ConfigError: the file cannot be read, others can read it, or it holds no key for signatures.
        """
        data = _read(path, private=True)
        try:
            key = load_pem_private_key(data, None)
        except TypeError:
            raise ConfigError(
                f"the key in {path} is protected by a password, which cannot be asked for",
                hint="write a copy without: openssl pkey -in FILE -out COPY",
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError(f"{path} holds no private key in PEM form", hint=_MAKE) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise _wrong_kind(str(path))
        _check_curve(key.public_key(), str(path))
        return cls(key)

    @property
    def key_id(self) -> str:
        """Of the public key."""
        return _key_id(self._key.public_key())

    @property
    def private_pem(self) -> bytes:
        """The key itself, not encrypted, for a private file."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public_pem(self) -> bytes:
        """What others verify with."""
        return _pem(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """An ECDSA signature in DER form; the hash is as long as the key."""
        return self._key.sign(message, _algorithm(self._key.public_key()))


def read_public_key(path: Path) -> str:
    """The PEM text of a file with a public key or a certificate.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        pem = _read(path, private=False).decode("ascii")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} holds no public key in PEM form", hint=_MAKE) from None
    _public_key(pem, str(path))
    return pem


def _public_key(pem: str, label: str = "a key") -> ec.EllipticCurvePublicKey:
    if "PRIVATE KEY" in pem:
        raise ConfigError(
            f"{label} is a private key",
            hint="name the public one, and keep the private one elsewhere",
        )
    data = pem.encode()
    try:
        is_certificate = "BEGIN CERTIFICATE" in pem
        key: object = (
            load_pem_x509_certificate(data).public_key()
            if is_certificate
            else load_pem_public_key(data)
        )
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{label} holds no public key in PEM form", hint=_MAKE) from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _wrong_kind(label)
    _check_curve(key, label)
    return key


def _check_curve(key: ec.EllipticCurvePublicKey, label: str) -> None:
    if key.curve.name not in _HASHES:
        raise _wrong_kind(label)


def _wrong_kind(label: str) -> ConfigError:
    return ConfigError(
        f"{label} is not a key on the curve P-256, P-384 or P-521; model signatures know no others",
        hint=_MAKE,
    )


def _read(path: Path, *, private: bool) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{path} is not a regular file", hint=_MAKE)
            if private and mode & 0o077:
                raise ConfigError(
                    f"the key file {path} can be read by other accounts",
                    hint=f"run: chmod 600 {shlex.quote(str(path))}",
                )
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"the key file {path} cannot be read: {reason}", hint=_MAKE) from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path} is too large for a key file", hint=_MAKE)
    return data


def _algorithm(key: ec.EllipticCurvePublicKey) -> ec.ECDSA:
    return ec.ECDSA(_HASHES[key.curve.name]())


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _key_id(key: ec.EllipticCurvePublicKey) -> str:
    """As OpenSSF's signers write it: SHA-256 over the PEM text."""
    return hashlib.sha256(_pem(key)).hexdigest()
