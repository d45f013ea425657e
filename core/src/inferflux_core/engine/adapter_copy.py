"""What a runner loads an adapter from: a copy of its file that nobody changes meanwhile."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

from inferflux_core.encrypted_adapters import (
    MAGIC,
    SUFFIX,
    Keyset,
    adapter_name,
    decrypted_in_memory,
)
from inferflux_core.errors import InvalidRequestError, StartupError

__all__ = ["private_copy"]

_DIGEST_BYTES: Final = 16
_CHUNK_BYTES: Final = 1 << 20


@contextmanager
def private_copy(path: Path, key_file: Path | None) -> Iterator[tuple[Path, bytes]]:
    """A copy that nobody changes while it is checked and loaded, and the digest of its content.

    Of an encrypted adapter there is a copy in memory only, and a link to it.

    Args:
        path: a GGUF file, plain or encrypted.
        key_file: has the keys of encrypted ones.

    Yields:
        A file of the same name, until the context ends, and 16 bytes.

    Raises:
        InvalidRequestError: the file cannot be read, copied or decrypted.
    """
    with ExitStack() as stack:
        try:
            source = stack.enter_context(_open(path))
            copy = Path(
                stack.enter_context(TemporaryDirectory(prefix="inferflux-adapter-")), path.name
            )
            if _is_encrypted(source, path):
                keyset = _keyset(path, key_file)
                name = adapter_name(path)
                memory = stack.enter_context(decrypted_in_memory(source, path.name, name, keyset))
                copy.symlink_to(memory)
            else:
                with copy.open("wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK_BYTES)
            with copy.open("rb") as file:
                digest = hashlib.file_digest(file, _new_digest).digest()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidRequestError(
                f"adapter {path.name} cannot be read: {reason}", param="lora_path"
            ) from error
        except StartupError as error:
            hint = f"; {error.hint}" if error.hint else ""
            raise InvalidRequestError(error.message + hint, param="lora_path") from error
        yield copy, digest


def _open(path: Path) -> BinaryIO:
    # Opening a pipe would wait for somebody to write to it, and the model with it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidRequestError(f"{path.name} is not a regular file", param="lora_path")
    return os.fdopen(descriptor, "rb")


def _is_encrypted(source: BinaryIO, path: Path) -> bool:
    """Files say themselves what they are; what is called encrypted has to be so."""
    start = source.read(len(MAGIC))
    source.seek(0)
    return start == MAGIC or path.name.endswith(SUFFIX)


def _keyset(path: Path, key_file: Path | None) -> Keyset:
    if key_file is None:
        raise InvalidRequestError(
            f"{path.name} is encrypted, and there is no key for it: set `adapters_key_file` of the model",
            param="lora_path",
        )
    # Read each time: keys change while the server runs, and none is kept beside the model.
    return Keyset(key_file)


def _new_digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)
