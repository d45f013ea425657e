"""Which cells of the cache a pass writes and reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.runner import Work

__all__ = ["Span"]

_BLANK: Final = 0


class Span:
    """A range of slots, as many tokens for each, and where they go.

    A slice of the cache is a view of it; any other choice of slots would copy their keys and values. So
    slots in the range that have no work compute along: their tokens go into a cell that nobody reads.

    Args:
        works: what to compute, of equal numbers of tokens, in different slots.
        capacity: cells of a slot that are read; the scratch cell is the one behind them.

    Attributes:
        first: the lowest slot.
        rows: slots of the range.
        count: tokens of each slot.
        reach: cells that some token attends to, counted from the first one.
    """

    def __init__(self, works: Sequence[Work], capacity: int) -> None:
        slots = [work.slot for work in works]
        self.first = min(slots)
        self.rows = max(slots) - self.first + 1
        self.count = len(works[0].token_ids)
        self.reach = max(work.position for work in works) + self.count
        self._capacity = capacity
        self._positions: NDArray[np.int32] = np.full(self.rows, capacity, np.int32)
        self._tokens: NDArray[np.int32] = np.full((self.rows, self.count), _BLANK, np.int32)
        for slot, work in zip(slots, works, strict=True):
            self._positions[slot - self.first] = work.position
            self._tokens[slot - self.first] = work.token_ids
        self._masks: dict[int | None, mx.array] = {}

    @property
    def start(self) -> int:
        """Position of the first token of the only slot."""
        assert self.rows == 1
        return int(self._positions[0])

    @cached_property
    def tokens(self) -> mx.array:
        """What the model gets: int32 `[rows, count]`."""
        return mx.array(self._tokens)

    @cached_property
    def offset(self) -> int | mx.array:
        """Positions of first tokens, as rotary embeddings want them: a number, or int32 `[rows]`."""
        return self.start if self.rows == 1 else mx.array(self._positions)

    @cached_property
    def slots(self) -> mx.array:
        """int32 `[rows, 1]`."""
        return mx.array(np.arange(self.first, self.first + self.rows, dtype=np.int32)[:, None])

    @cached_property
    def cells(self) -> mx.array:
        """Where each token goes in its slot: int32 `[rows, count]`."""
        cells = self._positions[:, None] + np.arange(self.count, dtype=np.int32)
        return mx.array(np.minimum(cells, self._capacity))

    def mask(self, window: int | None) -> mx.array:
        """What each token attends to: bool `[rows, 1, count, reach]`.

        Args:
            window: how many tokens back it sees, itself included; None for all.
        """
        if window not in self._masks:
            tokens = mx.array(self._positions)[:, None, None, None] + mx.arange(self.count)[:, None]
            cells = mx.arange(self.reach)
            mask = cells <= tokens
            if window is not None:
                mask = mask & (cells > tokens - window)
            self._masks[window] = mask
        return self._masks[window]

    def logit_rows(self, works: Sequence[Work]) -> list[int]:
        """Rows that are wanted, of logits `[rows * count, vocab_size]`, in the order of the works."""
        return [
            (work.slot - self.first) * self.count + token
            for work in works
            for token in range(self.count - work.num_logits, self.count)
        ]
