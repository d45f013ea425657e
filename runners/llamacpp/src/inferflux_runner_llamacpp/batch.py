"""A `llama_batch` over numpy arrays, filled by slices instead of one ctypes call per token."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llama_cpp
import numpy as np

__all__ = ["Batch"]


class Batch:
    """A reusable batch.

    Args:
        capacity: most tokens of a pass (`n_batch`).
        max_num_seqs: sequence ids are `0 .. max_num_seqs - 1`.
    """

    def __init__(self, capacity: int, max_num_seqs: int) -> None:
        self.capacity = capacity
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        self._ids = np.arange(max_num_seqs, dtype=np.int32)
        # llama.cpp wants a pointer to the list of sequence ids of every token; ours has one element.
        base = self._ids.ctypes.data
        self._id_pointers = base + self._ids.itemsize * np.arange(max_num_seqs, dtype=np.uintp)
        self._slots = np.zeros(capacity, np.uintp)
        self._struct = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._slots, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._wanted, ctypes.c_int8),
        )

    def rows(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        slots: Sequence[int],
        wanted: Sequence[bool],
    ) -> llama_cpp.llama_batch:
        """One token of each of several sequences, in ascending order of slots."""
        n = len(tokens)
        self._tokens[:n] = tokens
        self._positions[:n] = positions
        self._slots[:n] = self._id_pointers[list(slots)]
        self._wanted[:n] = wanted
        self._struct.n_tokens = n
        return self._struct

    def chunk(
        self, tokens: Sequence[int], position: int, slot: int, *, wanted: bool
    ) -> llama_cpp.llama_batch:
        """Consecutive tokens of one sequence; `wanted` asks for the logits after the last."""
        n = len(tokens)
        self._tokens[:n] = tokens
        self._positions[:n] = np.arange(position, position + n)
        self._slots[:n] = self._id_pointers[slot]
        self._wanted[:n] = 0
        self._wanted[n - 1] = wanted
        self._struct.n_tokens = n
        return self._struct


def _pointer(array: np.ndarray, kind: type) -> ctypes._Pointer:  # type: ignore[type-arg]
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
