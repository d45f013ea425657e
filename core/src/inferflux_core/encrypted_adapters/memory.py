"""A file that is nowhere but in memory."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from inferflux_core.encrypted_adapters.files import plain_pieces
from inferflux_core.encrypted_adapters.header import read_header
from inferflux_core.encrypted_adapters.keyset import Keyset
from inferflux_core.errors import ModelLoadError

__all__ = ["decrypted_in_memory"]


@contextmanager
def decrypted_in_memory(file: BinaryIO, label: str, name: str, keyset: Keyset) -> Iterator[Path]:
    """Decrypt an adapter.

    Args:
        file: the encrypted file, at its beginning; closed afterwards.
        label: names it in messages.
        name: the adapter that it has to be.
        keyset: has the key that it names.

    Yields:
        A path that this process can open until the context ends. Nobody can change what is there.

    Raises:
        ModelLoadError: it was altered, is another adapter, needs another key, or this system has no files
            in memory.
        OSError: it cannot be read, or memory is short.
    """
    if sys.platform != "linux":
        raise ModelLoadError(
            f"{label} is encrypted, and adapters are decrypted into files in memory only, "
            "which this operating system does not have",
            hint="serve encrypted adapters on Linux",
        )
    header = read_header(file, label)
    if header.name != name:
        raise ModelLoadError(
            f"{label} was encrypted as {header.name!r}, and by its file it would be {name!r}",
            hint="give the file its name back, or encrypt it with another --name",
        )
    descriptor = os.memfd_create("inferflux-adapter", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(descriptor, "wb") as memory:
        for piece in plain_pieces(file, header, label, keyset):
            memory.write(piece)
        memory.flush()
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield Path(f"/proc/self/fd/{descriptor}")
