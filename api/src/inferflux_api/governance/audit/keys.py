"""The key that signs checkpoints, and those that verify them."""

from __future__ import annotations

import os
import shlex
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from inferflux_api.governance.audit.files import beside, open_private, replace_file
from inferflux_api.governance.audit.problems import reason_of
from inferflux_core.errors import ConfigError

__all__ = ["Signer", "Verifier", "load_signer"]


class Signer:
    """Signs with one key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        public = key.public_key()
        self.public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = sha256(public.public_bytes_raw()).hexdigest()[:16]

    def sign(self, data: bytes) -> str:
        """The signature, in hexadecimal."""
        return self._key.sign(data).hex()


class Verifier:
    """Knows one or more public keys.

    Raises:
        ConfigError: a file holds none.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._keys = [_public_key(path) for path in paths]

    def accepts(self, data: bytes, signature: bytes) -> bool:
        """Whether one of the keys has signed `data`."""
        return any(_is_signed(key, data, signature) for key in self._keys)


def load_signer(log: Path, given: Path | None) -> Signer:
    """Read the key that signs the log, or make one beside it; puts its public half into `LOG.pub`.

    Raises:
        ConfigError: there is none where it should be, or it is not safe to use.
    """
    path = given or beside(log, "key")
    try:
        if given is None and not path.exists():
            _create(path)
        signer = Signer(_private_key(path))
        public = beside(log, "pub")
        if not public.exists() or public.read_bytes() != signer.public_pem:
            replace_file(public, signer.public_pem, durably=True)
            public.chmod(0o644)
    except OSError as error:
        command = f"openssl genpkey -algorithm ed25519 -out {shlex.quote(str(path))}"
        raise ConfigError(
            f"audit.signing_key: {path}: {reason_of(error)}",
            hint=f"correct it, or make a key: (umask 077; {command})",
        ) from error
    return signer


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    replace_file(path, pem, durably=True)


def _private_key(path: Path) -> Ed25519PrivateKey:
    with open(path, "rb", opener=open_private) as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise ConfigError(
                f"audit.signing_key: {path} can be read by other accounts",
                hint=f"run: chmod 600 {shlex.quote(str(path))}",
            )
        pem = file.read()
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"audit.signing_key: {path} holds no Ed25519 key in PEM form without a passphrase"
        )
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {reason_of(error)}") from error
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} holds no public Ed25519 key in PEM form")
    return key


def _is_signed(key: Ed25519PublicKey, data: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True
