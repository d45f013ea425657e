"""How an encrypted adapter begins: what it is, whose key it needs, and which adapter it is.

8 bytes   magic, with the version of the format
4 bytes   number of the key, big-endian
1 byte    length of the name
...       name, UTF-8
...       Tink's streaming AEAD, with all of the above as associated data
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from inferflux_core.errors import ModelLoadError

__all__ = ["MAGIC", "SUFFIX", "Header", "adapter_name", "read_header"]

MAGIC: Final = b"IFXLORA\x01"
SUFFIX: Final = ".gguf.enc"

_PURPOSE: Final = b"inferflux: LoRA adapter at rest\0"
_FIELDS: Final = struct.Struct(">8sIB")
_MAX_NAME_BYTES: Final = 255


class Header(msgspec.Struct, frozen=True):
    """The open part of a file; whoever changes it makes the rest unreadable.

    Attributes:
        key_id: of the key that encrypted it.
        name: of the adapter.
    """

    key_id: int
    name: str

    def pack(self) -> bytes:
        """Its bytes.

        Raises:
            ModelLoadError: the name is empty, too long, or no text.
        """
        try:
            name = self.name.encode()
        except UnicodeEncodeError:
            name = b""
        if not 0 < len(name) <= _MAX_NAME_BYTES:
            raise ModelLoadError(
                f"{self.name!r} cannot be the name of an encrypted adapter",
                hint=f"choose one of 1 to {_MAX_NAME_BYTES} bytes with --name",
            )
        return _FIELDS.pack(MAGIC, self.key_id, len(name)) + name

    @property
    def associated_data(self) -> bytes:
        """What ties the content to this header, and to being an adapter."""
        return _PURPOSE + self.pack()


def read_header(file: BinaryIO, label: str) -> Header:
    """Read the header, and leave `file` where the encrypted content begins.

    Raises:
        ModelLoadError: it is not an encrypted adapter, or is cut off; `label` names it.
    """
    fields = file.read(_FIELDS.size)
    if not fields.startswith(MAGIC):
        raise ModelLoadError(
            f"{label} is not an encrypted adapter",
            hint="encrypt a .gguf file with: inferctl adapters encrypt FILE --key-file K",
        )
    damaged = ModelLoadError(f"{label} is damaged: its header makes no sense", hint="copy it again")
    if len(fields) != _FIELDS.size:
        raise damaged
    _, key_id, length = _FIELDS.unpack(fields)
    name = file.read(length)
    if not 0 < length == len(name):
        raise damaged
    try:
        return Header(key_id, name.decode())
    except UnicodeDecodeError:
        raise damaged from None


def adapter_name(path: Path) -> str:
    """The name an adapter has by its file, plain or encrypted."""
    return path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else path.stem
