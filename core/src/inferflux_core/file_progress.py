"""How far a command is with big files, on a terminal."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["FileProgress"]

_SHOWN_FROM_BYTES: Final = 64 << 20


class FileProgress:
    """Told of every piece that is done; shows the share, if it is worth it and somebody looks.

    Args:
        total: bytes of all files.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._percent = -1
        self._shown = sys.stderr.isatty() and total >= _SHOWN_FROM_BYTES

    def __call__(self, num_bytes: int) -> None:
        """So many bytes more are done."""
        self._done += num_bytes
        percent = min(100, 100 * self._done // max(self._total, 1))
        if self._shown and percent != self._percent:
            self._percent = percent
            end = "\n" if self._done >= self._total else ""
            sys.stderr.write(f"\r{percent:3d} % of {self._total / 1e6:.0f} MB{end}")
            sys.stderr.flush()
