"""Encrypted adapters as files: written from plain ones or from each other, and read piece by piece."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from inferflux_core.encrypted_adapters.header import Header, read_header
from inferflux_core.encrypted_adapters.keyset import Keyset
from inferflux_core.errors import ModelLoadError

__all__ = ["Progress", "encrypt_file", "plain_pieces", "reencrypt_file", "write_new"]

Progress = Callable[[int], None]
"""Told how many bytes more are done."""

_PIECE_BYTES: Final = 1 << 20
_GGUF: Final = b"GGUF"


def encrypt_file(
    source: Path, target: Path, name: str, keyset: Keyset, progress: Progress
) -> Header:
    """Encrypt a plain adapter with the primary key.

    Args:
        source: a GGUF file.
        target: a file that does not exist yet; it appears when it is complete.
        name: the adapter that it is from now on.
        keyset: whose primary key encrypts.
        progress: told of bytes read.

    Raises:
        ModelLoadError: `source` is no GGUF file, or `name` cannot be a name.
        OSError: a file cannot be read or written, or `target` exists.
    """
    header = Header(keyset.primary, name)
    with source.open("rb") as file:
        if file.read(len(_GGUF)) != _GGUF:
            raise ModelLoadError(
                f"{source.name} is not a GGUF file",
                hint="convert the adapter with llama.cpp's convert_lora_to_gguf.py",
            )
        file.seek(0)
        _write(target, header, keyset, iter(lambda: file.read(_PIECE_BYTES), b""), progress)
    return header


def reencrypt_file(source: Path, target: Path, keyset: Keyset, progress: Progress) -> Header:
    """Encrypt an encrypted adapter anew, with the primary key; the plain text stays in memory.

    Raises:
        ModelLoadError: `source` is no encrypted adapter, was altered, or needs a key that is not there.
        OSError: a file cannot be read or written, or `target` exists.
    """
    with source.open("rb") as file:
        before = read_header(file, source.name)
        header = Header(keyset.primary, before.name)
        pieces = plain_pieces(file, before, source.name, keyset)
        _write(target, header, keyset, pieces, progress)
    return header


def plain_pieces(file: BinaryIO, header: Header, label: str, keyset: Keyset) -> Iterator[bytes]:
    """Decrypt what follows a header; every piece has been authenticated, and so has the end.

    Closes `file`, which `label` names.

    Raises:
        ModelLoadError: it was altered or cut off, or needs a key that is not there.
    """
    if header.key_id not in keyset:
        raise ModelLoadError(
            f"{label} was encrypted with the key {header.key_id}, and {keyset.path.name} has "
            f"{', '.join(map(str, keyset.ids))}",
            hint="use a key file that has it",
        )
    cipher = keyset.cipher(header.key_id)
    with cipher.new_decrypting_stream(file, header.associated_data) as stream:
        while True:
            try:
                piece = stream.read(_PIECE_BYTES)
            except keyset.error:
                raise ModelLoadError(
                    f"{label} fails its check: it was altered or cut off, or its key is another one "
                    "of the same number",
                    hint="copy it again, or encrypt the adapter again",
                ) from None
            if not piece:
                return
            yield piece


def _write(
    target: Path, header: Header, keyset: Keyset, pieces: Iterable[bytes], progress: Progress
) -> None:
    cipher = keyset.cipher(header.key_id)
    with write_new(target) as file:
        file.write(header.pack())
        file.flush()
        # Tink closes what it writes to, and this file is still to be forced to disk.
        same = os.fdopen(os.dup(file.fileno()), "wb", buffering=0)
        try:
            with same, cipher.new_encrypting_stream(same, header.associated_data) as stream:
                for piece in pieces:
                    stream.write(piece)
                    progress(len(piece))
        except keyset.error as error:
            # What the system said about the file is somewhere in Tink's first line.
            reason = str(error).partition("\n")[0]
            raise OSError(f"{target} cannot be written: {reason}") from error


@contextmanager
def write_new(target: Path) -> Iterator[BinaryIO]:
    """Write a private file that appears under its name when it is complete, and replaces none.

    Raises:
        OSError: it exists, or cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    if os.path.lexists(target):
        raise FileExistsError(17, "exists already; choose another name", str(target))
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        # Unlike a rename, a link does not replace what somebody else has put there meanwhile.
        os.link(part, target)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
