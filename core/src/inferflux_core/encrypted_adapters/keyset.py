"""The keys that adapters are encrypted with: a keyset of Tink, as JSON in a private file.

The keyset's primary key encrypts; the others are still known, so that files can be encrypted anew one
by one. Key material stays inside Tink: no object of this module can print it.
"""

from __future__ import annotations

import importlib
import os
import shlex
import stat
from io import RawIOBase
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Final, Protocol

import msgspec

from inferflux_core.errors import ConfigError

__all__ = ["Cipher", "Keyset", "new_keyset"]

_MAX_BYTES: Final = 64 * 1024


class Cipher(Protocol):
    """Streaming AEAD with one key. Streams close what they are given when they are closed."""

    def new_encrypting_stream(
        self, ciphertext_destination: RawIOBase | BinaryIO, associated_data: bytes
    ) -> BinaryIO:
        """A stream that takes plain bytes; closing it writes the end mark."""

    def new_decrypting_stream(
        self, ciphertext_source: BinaryIO, associated_data: bytes
    ) -> BinaryIO:
        """A stream of plain bytes, each of which has been authenticated before it is given out."""


class _Key(msgspec.Struct, rename="camel"):
    key_data: msgspec.Raw
    status: str
    key_id: int
    output_prefix_type: str


class _Document(msgspec.Struct, rename="camel"):
    primary_key_id: int
    key: list[_Key]

    def alone(self, key_id: int) -> _Document:
        """A keyset of one of the keys."""
        return _Document(key_id, [key for key in self.key if key.key_id == key_id])


class Keyset:
    """The keys of a file.

    Attributes:
        path: the file.
        primary: number of the key that encrypts.
        error: what its ciphers raise about content that fails its check.

    Raises:
        ConfigError: the file cannot be read, others can read it, it holds no keyset, or Tink is missing.
    """

    __slots__ = ("_ciphers", "error", "path", "primary")

    def __init__(self, path: Path) -> None:
        tink = _tink()
        document = _read(path)
        enabled = [key.key_id for key in document.key if key.status == "ENABLED"]
        self.path = path
        self.primary = document.primary_key_id
        self.error: type[Exception] = tink.TinkError
        self._ciphers: dict[int, Cipher] = {}
        for key_id in enabled:
            self._ciphers[key_id] = _cipher(tink, document.alone(key_id), path)
        if self.primary not in self._ciphers or len(self._ciphers) != len(enabled):
            raise _no_keyset(path)

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._ciphers

    def __repr__(self) -> str:
        return f"Keyset({str(self.path)!r}, keys={self.ids}, primary={self.primary})"

    @property
    def ids(self) -> list[int]:
        """The numbers of its keys."""
        return list(self._ciphers)

    def cipher(self, key_id: int) -> Cipher:
        """What encrypts and decrypts with one of the keys; KeyError if it is none of them."""
        return self._ciphers[key_id]


def new_keyset(previous: Path | None = None) -> tuple[bytes, int]:
    """Make a keyset with a new primary key.

    Args:
        previous: a keyset whose primary key becomes the second one, so that what it encrypted can be read.

    Returns:
        The content of a key file, and the number of the new key.

    Raises:
        ConfigError: `previous` is no keyset, or Tink is missing.
    """
    tink = _tink()
    kept: list[_Key] = []
    if previous is not None:
        kept = _read(previous).alone(Keyset(previous).primary).key
    template = tink.streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
    while True:
        handle = tink.new_keyset_handle(template)
        text = tink.json_proto_keyset_format.serialize(handle, tink.secret_key_access.TOKEN)
        document = msgspec.json.decode(text, type=_Document)
        # Numbers are drawn at random, and have to differ.
        if document.primary_key_id not in [key.key_id for key in kept]:
            break
    document.key += kept
    content = msgspec.json.format(msgspec.json.encode(document), indent=2)
    return content + b"\n", document.primary_key_id


def _read(path: Path) -> _Document:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise _no_keyset(path)
            if mode & 0o077:
                raise ConfigError(
                    f"the key file {path} can be read by other accounts",
                    hint=f"run: chmod 600 {shlex.quote(str(path))}",
                )
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"the key file {path} cannot be read: {reason}",
            hint="make one with: inferctl adapters keygen --out FILE",
        ) from error
    try:
        if len(data) > _MAX_BYTES:
            raise _no_keyset(path)
        return msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, ValueError):
        raise _no_keyset(path) from None


def _cipher(tink: ModuleType, document: _Document, path: Path) -> Cipher:
    text = msgspec.json.encode(document).decode()
    try:
        handle = tink.json_proto_keyset_format.parse(text, tink.secret_key_access.TOKEN)
        cipher: Cipher = handle.primitive(tink.streaming_aead.StreamingAead)
    except (tink.TinkError, ValueError):
        # Its message might quote what it could not read.
        raise _no_keyset(path) from None
    return cipher


def _no_keyset(path: Path) -> ConfigError:
    return ConfigError(
        f"the key file {path} holds no keyset for adapters",
        hint="make one with: inferctl adapters keygen --out FILE",
    )


def _tink() -> ModuleType:
    """Tink, which is imported by those who need it only."""
    try:
        tink = importlib.import_module("tink")
        importlib.import_module("tink.secret_key_access")
        importlib.import_module("tink.streaming_aead").register()
    except ImportError as error:
        raise ConfigError(
            f"encrypted adapters need Tink, which cannot be imported: {error}",
            hint="pip install 'inferflux-core[encryption]'",
        ) from error
    return tink
