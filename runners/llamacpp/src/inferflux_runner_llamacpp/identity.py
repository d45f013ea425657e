"""Names for what results depend on: files, the build of llama.cpp. Imports no native library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from inferflux_runner_llamacpp.library import library_folder

__all__ = ["build_files", "content_digest", "file_identity"]

_READ_WHOLE: Final = 16 * 2**20
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 64 * 2**10


def file_identity(path: Path) -> str:
    """A string that changes when the file does, or its place."""
    status = path.stat()
    return f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"


def build_files() -> list[Path]:
    """The libraries that make up the installed build of llama.cpp."""
    folder = library_folder()
    return sorted(folder.iterdir()) if folder and folder.is_dir() else []


def content_digest(paths: Iterable[Path]) -> str:
    """A hash of what files hold, wherever they are and whenever they were written.

    Of a large file, its size, its beginning, its end and evenly spaced samples in between are read. Different
    models differ in all of them.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(f"{size}|".encode())
            digest.update(file.read(_READ_WHOLE))
            if size > _READ_WHOLE:
                last = size - _SAMPLE_BYTES
                for sample in range(1, _SAMPLES + 1):
                    file.seek(_READ_WHOLE + (last - _READ_WHOLE) * sample // _SAMPLES)
                    digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
