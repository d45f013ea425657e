"""The files of a log: `PATH`, older ones `PATH.<number of their first record>`, and what lies beside."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

__all__ = [
    "beside",
    "first_seq_of",
    "open_private",
    "replace_file",
    "rotated_files",
    "rotated_name",
    "sync_folder",
]

_DIGITS: Final = 12


def beside(path: Path, suffix: str) -> Path:
    """`PATH.suffix`."""
    return path.with_name(f"{path.name}.{suffix}")


def rotated_name(path: Path, first_seq: int) -> Path:
    """The name of a file of `path` that is full."""
    return beside(path, f"{first_seq:0{_DIGITS}d}")


def first_seq_of(path: Path) -> int | None:
    """Number of the first record of a file that is full, by its name; None for another file."""
    suffix = path.suffix[1:]
    return int(suffix) if len(suffix) >= _DIGITS and suffix.isdecimal() else None


def rotated_files(path: Path) -> list[Path]:
    """The files of `path` that are full, oldest first."""
    found = ((first_seq_of(p), p) for p in path.parent.glob(f"{_escaped(path.name)}.*"))
    return [file for _, file in sorted((seq, file) for seq, file in found if seq is not None)]


def open_private(path: str | Path, flags: int) -> int:
    """Open a regular file that no other account can change; one that is made, none can read.

    Raises:
        OSError: it cannot be opened, or is no such file.
    """
    # O_NONBLOCK: a FIFO must be refused, not waited for.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) and not mode & (stat.S_IWGRP | stat.S_IWOTH):
        return descriptor
    os.close(descriptor)
    kind = "other accounts can change it" if stat.S_ISREG(mode) else "it is not a regular file"
    raise OSError(0, kind)


def replace_file(path: Path, data: bytes, *, durably: bool) -> None:
    """Put `data` in the place of a file, whole or not at all.

    Raises:
        OSError: the file is as it was.
    """
    temporary = beside(path, "tmp")
    temporary.unlink(missing_ok=True)
    with open(temporary, "xb", opener=open_private) as file:
        file.write(data)
        file.flush()
        if durably:
            os.fsync(file.fileno())
    temporary.replace(path)
    if durably:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names durable.

    Raises:
        OSError: they are not.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
