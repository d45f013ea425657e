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
from inferflux_core.models.folder.adapter import ADAPTER_FILES, is_adapter_folder

__all__ = ["private_copy"]

_DIGEST_BYTES: Final = 16
_CHUNK_BYTES: Final = 1 << 20


@contextmanager
def private_copy(path: Path, key_file: Path | None) -> Iterator[tuple[Path, bytes]]:
    """A copy that nobody changes while it is checked and loaded, and the digest of its content.

    Of an encrypted adapter there is a copy in memory only, and a link to it.

    Args:
        path: a GGUF file, plain or encrypted, or a folder as PEFT saves it.
        key_file: has the keys of encrypted ones.

    Yields:
        A file or folder of the same name, until the context ends, and 16 bytes.

    Raises:
        InvalidRequestError: the adapter cannot be read, copied or decrypted.
    """
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(TemporaryDirectory(prefix="inferflux-adapter-"))
            copy = Path(temporary, path.name)
            folder = path.is_dir()
            digest = _copy_folder(path, copy) if folder else _copy_file(path, copy, key_file, stack)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidRequestError(
                f"adapter {path.name} cannot be read: {reason}", param="lora_path"
            ) from error
        except StartupError as error:
            hint = f"; {error.hint}" if error.hint else ""
            raise InvalidRequestError(error.message + hint, param="lora_path") from error
        yield copy, digest


def _copy_folder(path: Path, copy: Path) -> bytes:
    """Copy what matters of a folder; returns a digest of it."""
    if not is_adapter_folder(path):
        raise InvalidRequestError(
            f"{path.name} is a folder without {' and '.join(ADAPTER_FILES)}", param="lora_path"
        )
    copy.mkdir()
    whole = _new_digest()
    for name in ADAPTER_FILES:
        with _open(path / name) as source:
            _copy(source, copy / name)
        whole.update(_digest(copy / name))
    return whole.digest()


def _copy_file(path: Path, copy: Path, key_file: Path | None, stack: ExitStack) -> bytes:
    """Copy or decrypt a file, which is open until the stack ends; returns a digest of its content."""
    source = stack.enter_context(_open(path))
    if _is_encrypted(source, path):
        keyset = _keyset(path, key_file)
        name = adapter_name(path)
        memory = stack.enter_context(decrypted_in_memory(source, path.name, name, keyset))
        copy.symlink_to(memory)
    else:
        _copy(source, copy)
    return _digest(copy)


def _copy(source: BinaryIO, copy: Path) -> None:
    with copy.open("wb") as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _new_digest).digest()


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
