"""Keys and values of a sequence, in and out of llama.cpp, cut into blocks of tokens.

llama.cpp writes a sequence's state as one blob: a header, one record per cell, then for every layer an array
of keys by cell, then likewise of values. Since flash attention is always on, values are stored by cell too.
With one row size for all layers, the arrays are a matrix with a stride, and a block is a slice of it.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.runner import RunnerError

__all__ = ["StateCodec", "StateLayout"]

Bytes = NDArray[np.uint8]

_U32: Final = struct.Struct("<I")
_CELL: Final = np.dtype([("pos", "<i4"), ("n_seq", "<u4"), ("seq_id", "<i4")])
_ARRAY_HEADER: Final = struct.Struct("<iQ")


@dataclass(frozen=True, slots=True)
class StateLayout:
    """What is constant about the blobs of a context.

    Attributes:
        prefix: everything before the first stream's cell count.
        num_streams: streams of the context.
        num_layers: layers with a cache.
        key_header: type and row size, as written before each array of keys.
        value_header: likewise of values.
        key_row: bytes of one token's keys in one layer.
        value_row: likewise of values.
    """

    prefix: bytes
    num_streams: int
    num_layers: int
    key_header: bytes
    value_header: bytes
    key_row: int
    value_row: int

    @classmethod
    def read(cls, blob: bytes, num_tokens: int) -> StateLayout | None:
        """Learn the layout from the state of a sequence of `num_tokens` tokens.

        Returns:
            None if the blob is not of the kind described above, as with sliding windows or recurrent
            layers.
        """
        try:
            return cls._read(blob, num_tokens)
        except (struct.error, ValueError):
            return None

    @classmethod
    def _read(cls, blob: bytes, num_tokens: int) -> StateLayout | None:
        # magic, sequence id, number of streams
        offset = 3 * _U32.size
        prefix = blob[:offset]
        (num_streams,) = _U32.unpack_from(blob, offset - _U32.size)
        cells = 0
        for _ in range(num_streams):
            (cells,) = _U32.unpack_from(blob, offset)
            offset += _U32.size
            if cells:
                break
        if cells != num_tokens:
            return None
        records = np.frombuffer(blob, _CELL, cells, offset)
        if not (np.array_equal(records["pos"], np.arange(cells)) and (records["n_seq"] == 1).all()):
            return None
        offset += records.nbytes
        transposed, num_layers = struct.unpack_from("<II", blob, offset)
        offset += 2 * _U32.size
        headers = []
        for _ in range(2):
            header = blob[offset : offset + _ARRAY_HEADER.size]
            (_, row) = _ARRAY_HEADER.unpack(header)
            headers.append((header, row))
            for _ in range(num_layers):
                if blob[offset : offset + _ARRAY_HEADER.size] != header:
                    return None
                offset += _ARRAY_HEADER.size + row * cells
        (key_header, key_row), (value_header, value_row) = headers
        layout = cls(prefix, num_streams, num_layers, key_header, value_header, key_row, value_row)
        # Streams after the one with cells are empty and take a count each.
        rest = len(blob) - offset
        plain = transposed == 0 and rest % _U32.size == 0 and rest <= num_streams * _U32.size
        return layout if plain and not any(blob[offset:]) else None

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers."""
        return self.num_layers * (self.key_row + self.value_row)

    def arrays(self, data: Bytes, num_tokens: int) -> tuple[Bytes, Bytes]:
        """Views of keys and values: uint8 `[num_layers, num_tokens * row]` each, headers left out."""
        key_stride = _ARRAY_HEADER.size + num_tokens * self.key_row
        value_stride = _ARRAY_HEADER.size + num_tokens * self.value_row
        middle = self.num_layers * key_stride
        keys = data[:middle].reshape(self.num_layers, key_stride)
        values = data[middle : middle + self.num_layers * value_stride]
        return (
            keys[:, _ARRAY_HEADER.size :],
            values.reshape(self.num_layers, value_stride)[:, _ARRAY_HEADER.size :],
        )


class StateCodec:
    """Exports and imports blocks of one context.

    Args:
        context: handle of the context.
        layout: learnt from it.
    """

    def __init__(self, context: llama_cpp.llama_context_p, layout: StateLayout) -> None:
        self._context = context
        self._layout = layout

    @classmethod
    def probe(
        cls, context: llama_cpp.llama_context_p, slot: int, num_tokens: int
    ) -> StateCodec | None:
        """Learn the layout from a slot that holds `num_tokens` tokens; None if it cannot be sliced."""
        layout = StateLayout.read(_state(context, slot).tobytes(), num_tokens)
        return cls(context, layout) if layout else None

    def export(self, slot: int, num_tokens: int, bounds: Sequence[int]) -> list[bytes]:
        """The pieces between `bounds` of a slot with `num_tokens` tokens.

        Content: keys of the piece's tokens layer by layer, then values.
        """
        layout = self._layout
        blob = _state(self._context, slot)
        body = layout.num_layers * 2 * _ARRAY_HEADER.size + layout.token_bytes * num_tokens
        start = self._body_offset(blob, num_tokens)
        keys, values = layout.arrays(blob[start : start + body], num_tokens)
        pieces = []
        for low, high in pairwise(bounds):
            key_part = keys[:, low * layout.key_row : high * layout.key_row]
            value_part = values[:, low * layout.value_row : high * layout.value_row]
            pieces.append(key_part.tobytes() + value_part.tobytes())
        return pieces

    def restore(self, slot: int, pieces: Sequence[bytes], bounds: Sequence[int]) -> None:
        """Fill an empty slot with the pieces between `bounds`, which begin at 0.

        Raises:
            RunnerError: llama.cpp refuses the state; the slot's content is unknown then.
        """
        layout, num_tokens = self._layout, bounds[-1]
        head = self._head(num_tokens)
        body = layout.num_layers * 2 * _ARRAY_HEADER.size + layout.token_bytes * num_tokens
        tail = _U32.size * (layout.num_streams - 1)
        blob = np.zeros(len(head) + body + tail, np.uint8)
        blob[: len(head)] = np.frombuffer(head, np.uint8)
        content = blob[len(head) : len(head) + body]
        self._write_headers(content, num_tokens)
        keys, values = layout.arrays(content, num_tokens)
        for piece, (low, high) in zip(pieces, pairwise(bounds), strict=True):
            split = layout.num_layers * (high - low) * layout.key_row
            data = np.frombuffer(piece, np.uint8)
            keys[:, low * layout.key_row : high * layout.key_row] = data[:split].reshape(
                layout.num_layers, -1
            )
            values[:, low * layout.value_row : high * layout.value_row] = data[split:].reshape(
                layout.num_layers, -1
            )
        pointer = ctypes.cast(blob.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
        read = llama_cpp.llama_state_seq_set_data_ext(self._context, pointer, len(blob), slot, 0)
        if not read:
            raise RunnerError("llama.cpp refused a state that it had exported")

    def _head(self, num_tokens: int) -> bytes:
        cells = np.zeros(num_tokens, _CELL)
        cells["pos"] = np.arange(num_tokens)
        cells["n_seq"] = 1
        count = _U32.pack(num_tokens)
        shape = struct.pack("<II", 0, self._layout.num_layers)
        return self._layout.prefix + count + cells.tobytes() + shape

    def _body_offset(self, blob: Bytes, num_tokens: int) -> int:
        """Where the arrays begin: after the empty streams before ours, our cells, and two numbers."""
        start = len(self._layout.prefix)
        counts = blob[start : start + _U32.size * self._layout.num_streams].view("<u4")
        empty = int(np.argmax(counts != 0))
        return start + _U32.size * (empty + 1) + num_tokens * _CELL.itemsize + 2 * _U32.size

    def _write_headers(self, content: Bytes, num_tokens: int) -> None:
        layout = self._layout
        offset = 0
        for header, row in (
            (layout.key_header, layout.key_row),
            (layout.value_header, layout.value_row),
        ):
            stride = _ARRAY_HEADER.size + num_tokens * row
            for _ in range(layout.num_layers):
                content[offset : offset + _ARRAY_HEADER.size] = np.frombuffer(header, np.uint8)
                offset += stride


def _state(context: llama_cpp.llama_context_p, slot: int) -> Bytes:
    size = llama_cpp.llama_state_seq_get_size_ext(context, slot, 0)
    blob = np.empty(size, np.uint8)
    pointer = ctypes.cast(blob.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
    written = llama_cpp.llama_state_seq_get_data_ext(context, pointer, size, slot, 0)
    return blob[:written]
