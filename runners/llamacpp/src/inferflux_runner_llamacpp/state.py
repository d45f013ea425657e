"""Keys and values of a sequence, in and out of llama.cpp, cut into blocks of tokens.

llama.cpp writes a sequence's state as one blob: two numbers, then every cache in turn (a model with sliding
windows has two). A cache is, for each stream, the number of its cells; for the sequence's own stream also a
record per cell, then for every layer an array of keys by cell, then likewise of values. With flash attention
values are stored by cell too. With one row size for all layers, the arrays are a matrix with a stride, and a
block is a slice of it.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.runner import RunnerError

__all__ = ["CacheLayout", "StateCodec", "StateLayout", "read_state", "write_state"]

Bytes = NDArray[np.uint8]

_U32: Final = struct.Struct("<I")
_SHAPE: Final = struct.Struct("<II")
_CELL: Final = np.dtype([("pos", "<i4"), ("n_seq", "<u4"), ("seq_id", "<i4")])
_ARRAY_HEADER: Final = struct.Struct("<iQ")
_PREFIX_BYTES: Final = 2 * _U32.size  # magic, sequence id


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """What is constant about one cache.

    Attributes:
        num_streams: streams of the context.
        num_layers: layers with keys and values in this cache.
        key_header: type and row size, as written before each array of keys.
        value_header: likewise of values.
        key_row: bytes of one token's keys in one layer.
        value_row: likewise of values.
    """

    num_streams: int
    num_layers: int
    key_header: bytes
    value_header: bytes
    key_row: int
    value_row: int

    @classmethod
    def read(cls, blob: bytes, offset: int, num_tokens: int) -> CacheLayout:
        """Learn the layout from a cache with `num_tokens` tokens.

        Raises:
            ValueError, struct.error: the cache is not of the kind described above.
        """
        (num_streams,) = _U32.unpack_from(blob, offset)
        offset += _U32.size
        cells = 0
        for _ in range(num_streams):
            (cells,) = _U32.unpack_from(blob, offset)
            offset += _U32.size
            if cells:
                break
        if cells != num_tokens:
            raise ValueError(f"{cells} cells for {num_tokens} tokens")
        records = np.frombuffer(blob, _CELL, cells, offset)
        positions = np.sort(records["pos"])
        if not (np.array_equal(positions, np.arange(cells)) and (records["n_seq"] == 1).all()):
            raise ValueError("cells of an unknown kind")
        offset += records.nbytes
        transposed, num_layers = _SHAPE.unpack_from(blob, offset)
        if transposed or not num_layers:
            raise ValueError("values are not stored by token")
        key_header = blob[offset + _SHAPE.size :][: _ARRAY_HEADER.size]
        key_row = _ARRAY_HEADER.unpack(key_header)[1]
        middle = offset + _SHAPE.size + num_layers * (_ARRAY_HEADER.size + cells * key_row)
        value_header = blob[middle:][: _ARRAY_HEADER.size]
        value_row = _ARRAY_HEADER.unpack(value_header)[1]
        return cls(num_streams, num_layers, key_header, value_header, key_row, value_row)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers."""
        return self.num_layers * (self.key_row + self.value_row)

    def body_bytes(self, num_tokens: int) -> int:
        """Bytes of all arrays with their headers."""
        return self.num_layers * 2 * _ARRAY_HEADER.size + self.token_bytes * num_tokens

    def size(self, num_tokens: int) -> int:
        """Bytes of the cache in a blob."""
        counts = _U32.size * (1 + self.num_streams)
        return counts + num_tokens * _CELL.itemsize + _SHAPE.size + self.body_bytes(num_tokens)

    def arrays(self, body: Bytes, num_tokens: int) -> tuple[Bytes, Bytes]:
        """Views of keys and values: uint8 `[num_layers, header + num_tokens * row]` each."""
        key_stride = _ARRAY_HEADER.size + num_tokens * self.key_row
        value_stride = _ARRAY_HEADER.size + num_tokens * self.value_row
        middle = self.num_layers * key_stride
        return (
            body[:middle].reshape(self.num_layers, key_stride),
            body[middle:].reshape(self.num_layers, value_stride),
        )

    def open(self, data: Bytes, num_tokens: int) -> tuple[Bytes, Bytes]:
        """Keys and values of a cache in order of positions, headers left out.

        Args:
            data: the cache as it is in a blob.
            num_tokens: cells.

        Returns:
            uint8 `[num_layers, num_tokens * row]` each.
        """
        counts = data[_U32.size : _U32.size * (1 + self.num_streams)].view("<u4")
        cells = _U32.size * (2 + int(np.argmax(counts != 0)))
        start = cells + num_tokens * _CELL.itemsize + _SHAPE.size
        order = data[cells : start - _SHAPE.size].view(_CELL)["pos"]
        arrays = self.arrays(data[start : start + self.body_bytes(num_tokens)], num_tokens)
        keys, values = (array[:, _ARRAY_HEADER.size :] for array in arrays)
        if (np.diff(order) > 0).all():
            return keys, values
        # Sequences that share one stream fill whatever cells are free.
        by_position = np.argsort(order)
        return _reordered(keys, by_position), _reordered(values, by_position)

    def create(self, data: Bytes, num_tokens: int) -> tuple[Bytes, Bytes]:
        """Write everything but keys and values into a zeroed cache; returns views as `open` does."""
        head = _U32.pack(self.num_streams) + _U32.pack(num_tokens)
        cells = np.zeros(num_tokens, _CELL)
        cells["pos"] = np.arange(num_tokens)
        cells["n_seq"] = 1
        head += cells.tobytes() + _SHAPE.pack(0, self.num_layers)
        data[: len(head)] = np.frombuffer(head, np.uint8)
        body = data[len(head) : len(head) + self.body_bytes(num_tokens)]
        keys, values = self.arrays(body, num_tokens)
        keys[:, : _ARRAY_HEADER.size] = np.frombuffer(self.key_header, np.uint8)
        values[:, : _ARRAY_HEADER.size] = np.frombuffer(self.value_header, np.uint8)
        return keys[:, _ARRAY_HEADER.size :], values[:, _ARRAY_HEADER.size :]


@dataclass(frozen=True, slots=True)
class StateLayout:
    """What is constant about the blobs of a context.

    Attributes:
        prefix: what comes before the caches.
        caches: one, or two for models with sliding windows.
    """

    prefix: bytes
    caches: tuple[CacheLayout, ...]

    @classmethod
    def read(cls, blob: bytes, num_tokens: int) -> StateLayout | None:
        """Learn the layout from the state of a sequence of `num_tokens` tokens.

        Returns:
            None if the blob is not of the kind described above, as with recurrent layers.
        """
        caches: list[CacheLayout] = []
        offset = _PREFIX_BYTES
        try:
            while offset < len(blob):
                caches.append(CacheLayout.read(blob, offset, num_tokens))
                offset += caches[-1].size(num_tokens)
        except (struct.error, ValueError):
            return None
        if not caches or offset != len(blob):
            return None
        return cls(blob[:_PREFIX_BYTES], tuple(caches))

    def size(self, num_tokens: int) -> int:
        """Bytes of a blob."""
        return len(self.prefix) + sum(cache.size(num_tokens) for cache in self.caches)

    def split(self, blob: Bytes, num_tokens: int) -> Iterator[tuple[CacheLayout, Bytes]]:
        """The caches of a blob."""
        offset = len(self.prefix)
        for cache in self.caches:
            size = cache.size(num_tokens)
            yield cache, blob[offset : offset + size]
            offset += size


class StateCodec:
    """Exports and imports blocks of one context.

    A piece is, for every cache, the keys of its tokens layer by layer, then their values.

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
        layout = StateLayout.read(read_state(context, slot).tobytes(), num_tokens)
        return cls(context, layout) if layout else None

    def export(self, slot: int, num_tokens: int, bounds: Sequence[int]) -> list[bytes]:
        """The pieces between `bounds` of a slot with `num_tokens` tokens."""
        blob = read_state(self._context, slot)
        caches = [
            (c, *c.open(data, num_tokens)) for c, data in self._layout.split(blob, num_tokens)
        ]
        pieces = []
        for low, high in pairwise(bounds):
            parts = []
            for cache, keys, values in caches:
                parts.append(keys[:, low * cache.key_row : high * cache.key_row].tobytes())
                parts.append(values[:, low * cache.value_row : high * cache.value_row].tobytes())
            pieces.append(b"".join(parts))
        return pieces

    def restore(self, slot: int, pieces: Sequence[bytes], bounds: Sequence[int]) -> None:
        """Fill an empty slot with the pieces between `bounds`, which begin at 0.

        Raises:
            RunnerError: llama.cpp refuses the state; the slot's content is unknown then.
        """
        layout, num_tokens = self._layout, bounds[-1]
        blob = np.zeros(layout.size(num_tokens), np.uint8)
        blob[: len(layout.prefix)] = np.frombuffer(layout.prefix, np.uint8)
        caches = [(c, *c.create(data, num_tokens)) for c, data in layout.split(blob, num_tokens)]
        for piece, (low, high) in zip(pieces, pairwise(bounds), strict=True):
            data = np.frombuffer(piece, np.uint8)
            for cache, keys, values in caches:
                for target, row in ((keys, cache.key_row), (values, cache.value_row)):
                    part, data = np.split(data, [cache.num_layers * (high - low) * row])
                    target[:, low * row : high * row] = part.reshape(cache.num_layers, -1)
        write_state(self._context, slot, blob)


def read_state(context: llama_cpp.llama_context_p, slot: int) -> Bytes:
    """All that llama.cpp keeps about a sequence."""
    size = llama_cpp.llama_state_seq_get_size_ext(context, slot, 0)
    blob = np.empty(size, np.uint8)
    pointer = ctypes.cast(blob.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
    written = llama_cpp.llama_state_seq_get_data_ext(context, pointer, size, slot, 0)
    return blob[:written]


def write_state(context: llama_cpp.llama_context_p, slot: int, blob: Bytes) -> None:
    """Put a sequence's state into a slot.

    Raises:
        RunnerError: llama.cpp refuses the state; the slot's content is unknown then.
    """
    pointer = ctypes.cast(blob.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
    if not llama_cpp.llama_state_seq_set_data_ext(context, pointer, len(blob), slot, 0):
        raise RunnerError("llama.cpp refused a state that it had exported")


def _reordered(array: Bytes, order: NDArray[np.intp]) -> Bytes:
    layers = len(array)
    return array.reshape(layers, len(order), -1)[:, order].reshape(layers, -1)
