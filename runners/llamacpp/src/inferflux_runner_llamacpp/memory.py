"""The pages of the KV cache: how lengths are rounded, and giving back those that hold nothing."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path
from typing import Final

import numpy as np

__all__ = ["PAGE", "drop_zero_pages", "padded"]

PAGE: Final = 256
"""llama.cpp rounds the length of every sequence up to a multiple of this."""

_CHUNK: Final = 2 * 2**20
_SMALLEST_MAPPING: Final = 64 * 2**20


def drop_zero_pages() -> int:
    """Return pages of large private mappings that hold only zeros; they read as zeros again.

    llama.cpp clears its KV cache, and thereby makes every page of it resident, long before a token needs
    it. Call only while no other thread writes to such memory. Returns the number of bytes returned.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    dropped = 0
    for start, end in _large_anonymous_mappings():
        for address in range(start, end - _CHUNK + 1, _CHUNK):
            chunk = np.frombuffer(
                memoryview((ctypes.c_char * _CHUNK).from_address(address)), np.uint64
            )
            if not chunk.any() and libc.madvise(address, _CHUNK, mmap.MADV_DONTNEED) == 0:
                dropped += _CHUNK
    return dropped


def _large_anonymous_mappings() -> list[tuple[int, int]]:
    try:
        lines = Path("/proc/self/smaps").read_text().splitlines()
    except OSError:
        return []
    found = []
    start = end = 0
    for line in lines:
        fields = line.split()
        if not fields[0].endswith(":"):
            start, end = (int(part, 16) for part in fields[0].split("-"))
            # Private, writable and without a file or name behind it: nobody else sees the change.
            if fields[1] != "rw-p" or len(fields) != 5 or end - start < _SMALLEST_MAPPING:
                start = end = 0
        elif fields[0] == "Rss:" and int(fields[1]) * 1024 * 2 > end - start > 0:
            # What was cleared is resident; address space that a library only reserved is not, and
            # may span hundreds of gigabytes.
            found.append((start, end))
    return found


def padded(length: int) -> int:
    """The cells that llama.cpp makes of a sequence's length."""
    return -(-length // PAGE) * PAGE
