"""Keys and values of one layer for all sequences, behind the interface of mlx_lm's caches."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from inferflux_runner_mlx.span import Span

__all__ = ["SlotCache"]


class SlotCache:
    """A slot per sequence, each of a fixed number of cells.

    Models see it in place of mlx_lm's `KVCache` or `RotatingKVCache`: they ask for `offset`, `make_mask` and
    `update_and_fetch`. Layers with a sliding window keep all cells and mask what is too far back, so that
    tokens can be taken back and states cut anywhere.

    Args:
        slots: how many.
        capacity: tokens each can hold.
        window: how many tokens back the layer sees; None for all.

    Attributes:
        span: what the current pass writes and reads.
        keys: `[slots, heads, capacity + 1, size]`; None before the first pass. The cell at the end is
            written to and never read.
        values: likewise.
    """

    def __init__(self, slots: int, capacity: int, window: int | None) -> None:
        self.span: Span | None = None
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self._slots = slots
        self._capacity = capacity
        self._window = window

    @property
    def offset(self) -> int | mx.array:
        """Positions of the pass's first tokens."""
        assert self.span is not None
        return self.span.offset

    def make_mask(
        self, count: int, *, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str | None:
        """What `count` new tokens of each sequence attend to, in the form that is cheapest."""
        span = self.span
        assert span is not None
        assert count == span.count
        window = window_size or self._window
        if window is not None and span.reach <= window:
            window = None
        if span.rows > 1 or window is not None or return_array:
            return span.mask(window)
        return "causal" if count > 1 else None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Store keys and values, each `[rows, heads, count, size]`; returns all that the pass reads."""
        span = self.span
        assert span is not None
        if self.keys is None or self.values is None:
            self.keys, self.values = self._make(keys), self._make(values)
        _write(self.keys, keys, span)
        _write(self.values, values, span)
        rows = slice(span.first, span.first + span.rows)
        return self.keys[rows, :, : span.reach], self.values[rows, :, : span.reach]

    def state(self) -> list[mx.array]:
        """What has to be evaluated after a pass."""
        return [] if self.keys is None or self.values is None else [self.keys, self.values]

    def clear(self, slot: int, length: int) -> None:
        """Overwrite a slot's first cells: a mask does not keep a NaN from whoever comes next."""
        for part in self.state():
            part[slot, :, :length] = mx.zeros((), part.dtype)

    def copy(self, slot: int, to: int, length: int) -> None:
        """Copy a slot's first cells to another slot."""
        for part in self.state():
            part[to, :, :length] = part[slot, :, :length]

    def read(self, slot: int, start: int, end: int) -> list[mx.array]:
        """Keys and values in a range of cells: uint8 `[cells, bytes]` each."""
        ranges = [part[slot, :, start:end].transpose(1, 0, 2) for part in self.state()]
        return [part.reshape(end - start, -1).view(mx.uint8) for part in ranges]

    def write(self, slot: int, content: mx.array, column: int) -> int:
        """Fill a slot's first cells with what `read` gave.

        Args:
            slot: an empty one.
            content: uint8 `[cells, bytes]`, of this and other layers.
            column: where those of this layer begin.

        Returns:
            Where they end.
        """
        for part in self.state():
            _, heads, _, size = part.shape
            width = heads * size * part.dtype.size
            columns = mx.contiguous(content[:, column : column + width]).view(part.dtype)
            cells = columns.reshape(-1, heads, size).transpose(1, 0, 2)
            part[slot, :, : len(content)] = cells
            column += width
        return column

    def _make(self, like: mx.array) -> mx.array:
        _, heads, _, size = like.shape
        return mx.zeros((self._slots, heads, self._capacity + 1, size), like.dtype)


def _write(whole: mx.array, new: mx.array, span: Span) -> None:
    """In place: nobody else holds the array when it is evaluated."""
    target: Any = whole
    if span.rows == 1:
        target[span.first, :, span.start : span.reach] = new[0]
    else:
        target[span.slots, :, span.cells] = new.transpose(0, 2, 1, 3)
