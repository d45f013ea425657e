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
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        self._ids = np.arange(max_num_seqs, dtype=np.int32)
        # llama.cpp wants a pointer to the list of sequence ids of every token; ours has one element.
        base = self._ids.ctypes.data
        self._id_pointers = base + self._ids.itemsize * np.arange(max_num_seqs, dtype=np.uintp)
        self._slots = np.zeros(capacity, np.uintp)
        self._steps = np.arange(capacity, dtype=np.int32)
        self._struct = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._slots, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._wanted, ctypes.c_int8),
        )

    def fill(
        self,
        slots: Sequence[int],
        positions: Sequence[int],
        tokens: Sequence[Sequence[int]],
        num_logits: Sequence[int],
    ) -> llama_cpp.llama_batch:
        """Equally many tokens of each of several sequences.

        Args:
            slots: the sequences, in ascending order.
            positions: of the first token of each.
            tokens: `[len(slots)][tokens per sequence]`.
            num_logits: after how many tokens of each, counted from its last one, logits are wanted.
        """
        shape = len(slots), len(tokens[0])
        total = shape[0] * shape[1]
        steps = self._steps[: shape[1]]
        self._tokens[:total].reshape(shape)[...] = tokens
        self._slots[:total].reshape(shape)[...] = self._id_pointers[list(slots), None]
        np.add(
            np.array(positions, np.int32)[:, None],
            steps,
            out=self._positions[:total].reshape(shape),
        )
        firsts = shape[1] - np.array(num_logits, np.int32)
        self._wanted[:total].reshape(shape)[...] = steps >= firsts[:, None]
        self._struct.n_tokens = total
        return self._struct


def _pointer(array: np.ndarray, kind: type) -> ctypes._Pointer:  # type: ignore[type-arg]
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
