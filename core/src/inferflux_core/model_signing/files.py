"""The files of a model as they lie on the disk: which there are, and what is in them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from inferflux_core.errors import ModelLoadError

__all__ = ["FileVersion", "Progress", "digest_file", "list_files", "read_bounded"]

Progress = Callable[[int], None]
"""Told how many bytes more are done."""

_PIECE_BYTES: Final = 4 << 20
_MAX_ENTRIES: Final = 100_000


class FileVersion(NamedTuple):
    """What changes when a file's content does; the last one cannot be set by programs."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileVersion:
        """From what the system says."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def digest_file(path: Path, progress: Progress) -> tuple[str, FileVersion]:
    """The SHA-256 of a file in hexadecimal, and which version of it was read.

    Raises:
        ModelLoadError: it is no regular file, or changed meanwhile.
        OSError: it cannot be read.
    """
    descriptor = _open(path)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = FileVersion.of(os.fstat(descriptor))
        digest, piece = hashlib.sha256(), bytearray(_PIECE_BYTES)
        view = memoryview(piece)
        while count := file.readinto(piece):
            digest.update(view[:count])
            progress(count)
        if FileVersion.of(os.fstat(descriptor)) != before:
            raise ModelLoadError(
                f"{path.name} changed while it was read", hint="wait until it is complete"
            )
    return digest.hexdigest(), before


def read_bounded(path: Path, most: int) -> tuple[bytes, FileVersion]:
    """The content of a small file, and its version.

    Raises:
        ModelLoadError: it is no regular file, or has more than `most` bytes.
        OSError: it cannot be read.
    """
    descriptor = _open(path)
    with os.fdopen(descriptor, "rb") as file:
        version = FileVersion.of(os.fstat(descriptor))
        data = file.read(most + 1)
    if len(data) > most:
        raise ModelLoadError(
            f"{path.name} has more than {most} bytes", hint="it is no model signature"
        )
    return data, version


def list_files(
    folder: Path, ignores: Callable[[str], bool], *, allow_symlinks: bool
) -> dict[str, Path]:
    """All files below a folder by their names, relative and with slashes.

    Args:
        folder: where to look.
        ignores: of a file's or folder's name, whether it is left out.
        allow_symlinks: whether links to files count as files. Links to folders never do: loaders would
            follow them, and OpenSSF's signer does not.

    Raises:
        ModelLoadError: there is something that is neither file nor folder, or too much.
        OSError: a folder cannot be read.
    """
    found: dict[str, Path] = {}
    waiting, seen = [""], 0
    while waiting:
        prefix = waiting.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                seen += 1
                if seen > _MAX_ENTRIES:
                    raise _strange(folder, f"more than {_MAX_ENTRIES} files")
                name = prefix + entry.name
                if ignores(name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                elif entry.is_symlink() and not allow_symlinks:
                    raise _strange(folder, f"a link, {name!r}, which the signature does not allow")
                elif entry.is_file():
                    found[name] = Path(entry.path)
                else:
                    raise _strange(folder, f"{name!r}, which is no regular file")
    return found


def _open(path: Path) -> int:
    # Opening a pipe would wait for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelLoadError(f"{path.name} is not a regular file", hint="check the path")
    return descriptor


def _strange(folder: Path, what: str) -> ModelLoadError:
    return ModelLoadError(
        f"{folder.name} holds {what}", hint="take it out of the model's folder, or sign again"
    )
