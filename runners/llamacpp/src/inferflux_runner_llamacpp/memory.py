"""How large a context may be, and giving back memory that holds nothing."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.engine.host_memory import available_memory
from inferflux_core.errors import ModelLoadError

__all__ = ["ContextSize", "drop_zero_pages", "fit", "padded"]

_DEFAULT_SEQS: Final = 32
_DEFAULT_LEN: Final = 2048
_DEFAULT_BUDGET: Final = 768 * 2**20
_PAD: Final = 256
_CHUNK: Final = 2 * 2**20
_SMALLEST_MAPPING: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ContextSize:
    """Sequences, and the tokens each can hold."""

    max_num_seqs: int
    max_model_len: int


def fit(
    kv_bytes_per_token: int, trained_len: int, runtime: RuntimeConfig, *, check_memory: bool
) -> ContextSize:
    """Choose what the configuration leaves open.

    Unset, the KV cache may take 768 MiB, and at most 40 % of free memory; sequences are given up before
    their length falls below 2,048 tokens (or what the model was trained for).

    Args:
        kv_bytes_per_token: of all layers.
        trained_len: context length of the model.
        runtime: limits from the configuration.
        check_memory: whether the cache lives in this machine's main memory.

    Raises:
        ModelLoadError: what is asked for does not fit, or exceeds the model's context.
    """
    free = available_memory() if check_memory else 2**62
    tokens = int(min(_DEFAULT_BUDGET, 0.4 * free)) // max(kv_bytes_per_token, 1)
    length, seqs = runtime.max_model_len, runtime.max_num_seqs
    if length is not None and length > trained_len:
        raise ModelLoadError(
            f"runtime.max_model_len is {length} and the model was trained for {trained_len} tokens",
            hint=f"set `runtime.max_model_len` to at most {trained_len}",
        )
    if seqs is None:
        floor = length or min(trained_len, _DEFAULT_LEN)
        seqs = max(1, min(_DEFAULT_SEQS, tokens // padded(floor)))
    if length is None:
        length = min(trained_len, max(_PAD, tokens // seqs // _PAD * _PAD))
    needed = padded(length) * seqs * kv_bytes_per_token
    if needed > free:
        raise ModelLoadError(
            f"a KV cache of {seqs} sequences of {length} tokens needs {needed / 2**20:,.0f} MiB and "
            f"only {free / 2**20:,.0f} MiB of memory are free",
            hint="lower `runtime.max_model_len` or `runtime.max_num_seqs`",
        )
    return ContextSize(seqs, length)


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
    return -(-length // _PAD) * _PAD
