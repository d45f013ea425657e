"""A name for what files hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["content_digest"]

_READ_WHOLE: Final = 16 * 2**20
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 64 * 2**10


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
