"""One block in one file, such that a file which is not what it should be is noticed."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import struct
from pathlib import Path
from typing import Final

__all__ = ["SUFFIX", "BlockFileError", "file_size", "read_block", "write_block"]

SUFFIX: Final = ".kv"
_MAGIC: Final = b"IFLXKV\x00\x01"
_HEADER: Final = struct.Struct("<8s16s16sQ16s")


class BlockFileError(Exception):
    """The file is damaged, incomplete, or another block's."""


def file_size(content: bytes) -> int:
    """Bytes of the file of a block."""
    return _HEADER.size + len(content)


def write_block(path: Path, fingerprint: bytes, name: bytes, content: bytes) -> None:
    """Write a block: at no moment is there an incomplete file under its name.

    Args:
        path: where to.
        fingerprint: 16 bytes that say who can use the content.
        name: 16 bytes that say which tokens it holds.
        content: what a runner exported.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    header = _HEADER.pack(_MAGIC, fingerprint, name, len(content), _checksum(content))
    part = path.with_name(f"{path.stem}.{secrets.token_hex(6)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(header)
            view = memoryview(content)
            while view:
                view = view[file.write(view) :]
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def read_block(path: Path, fingerprint: bytes, name: bytes) -> bytes:
    """Read a block back.

    Raises:
        OSError: it cannot be read.
        BlockFileError: it is not the block that was asked for, byte for byte.
    """
    # Whatever else may lie under this name, opening it neither blocks nor leads out of the folder.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BlockFileError("it is no regular file")
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise BlockFileError("it ends within its header")
        magic, whose, which, length, checksum = _HEADER.unpack(header)
        if magic != _MAGIC:
            raise BlockFileError("it is of another format")
        if whose != fingerprint:
            raise BlockFileError("it was written for another model or configuration")
        if which != name:
            raise BlockFileError("it holds another block")
        # Before memory is taken for it.
        if status.st_size != _HEADER.size + length:
            raise BlockFileError("it does not have the length it should have")
        content = file.readall()
    if len(content) != length or checksum != _checksum(content):
        raise BlockFileError("its content is damaged")
    return content


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
