"""Keys and values in blocks, which sequences may share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from inferflux_core.engine.runner import Work
from inferflux_runner_torch.ops import KVLayer, Ops, Rows

__all__ = ["PagedCache"]


class PagedCache:
    """Blocks of tokens for all layers, and a table of them for every slot, as in vLLM (arXiv:2309.06180).

    Slots may share blocks; who writes into one that is shared gets a copy of it first. There are enough
    blocks for all slots at their full length.

    Args:
        ops: lay out and copy blocks.
        layers: of the model.
        heads: of keys and values.
        head: elements of a head.
        slots: sequences.
        capacity: tokens of a sequence.
    """

    def __init__(
        self, ops: Ops, *, layers: int, heads: int, head: int, slots: int, capacity: int
    ) -> None:
        self._ops = ops
        self._size = ops.block_size
        per_slot = -(-capacity // self._size)
        self.layers: Sequence[KVLayer] = ops.new_cache(layers, slots * per_slot, heads, head)
        self._free = list(range(slots * per_slot - 1, -1, -1))
        self._users = [0] * (slots * per_slot)
        self._tables: NDArray[np.int32] = np.zeros((slots, per_slot), np.int32)
        self._blocks = [0] * slots
        self._lengths = [0] * slots

    def length(self, slot: int) -> int:
        """Tokens that a slot holds."""
        return self._lengths[slot]

    def append(self, works: Sequence[Work]) -> Rows:
        """Make room for the tokens of works, one for each slot, and say where their rows go."""
        lengths = [len(work.token_ids) for work in works]
        ends = [work.position + count for work, count in zip(works, lengths, strict=True)]
        for work, end in zip(works, ends, strict=True):
            self._reserve(work.slot, work.position, end)
        slots = np.array([work.slot for work in works])
        counts = np.array(lengths)
        starts = np.concatenate(([0], counts.cumsum()))
        total = int(starts[-1])
        begins = np.array([work.position for work in works])
        positions = np.arange(total) - np.repeat(starts[:-1] - begins, counts)
        most = max(self._blocks[work.slot] for work in works)
        blocks = self._tables[np.repeat(slots, counts), positions // self._size].astype(np.int64)
        return Rows(
            starts=self._on_device(starts.astype(np.int32)),
            contexts=self._on_device(np.array(ends, np.int32)),
            block_tables=self._on_device(self._tables[slots, :most]),
            positions=self._on_device(positions),
            cells=self._on_device(blocks * self._size + positions % self._size),
            lengths=lengths,
            ends=ends,
        )

    def release(self, slot: int) -> None:
        """Forget a sequence."""
        self.truncate(slot, 0)

    def truncate(self, slot: int, length: int) -> None:
        """Forget a sequence's tokens from position `length` on."""
        keep = -(-length // self._size)
        for block in self._tables[slot, keep : self._blocks[slot]].tolist():
            self._drop(block)
        self._blocks[slot] = min(keep, self._blocks[slot])
        self._lengths[slot] = length

    def share(self, slot: int, to: int, length: int) -> None:
        """Let an empty slot hold the first tokens of a sequence too, in the same blocks."""
        count = -(-length // self._size)
        self._tables[to, :count] = self._tables[slot, :count]
        for block in self._tables[slot, :count].tolist():
            self._users[block] += 1
        self._blocks[to] = count
        self._lengths[to] = length

    def cells(self, slot: int, start: int, end: int) -> torch.Tensor:
        """Where tokens of a slot lie: int64 `[end - start]`."""
        tokens = np.arange(start, end)
        blocks = self._tables[slot, tokens // self._size].astype(np.int64)
        return self._on_device(blocks * self._size + tokens % self._size)

    def reserve(self, slot: int, end: int) -> None:
        """Make room for the tokens of an empty slot up to `end`, to be written by the caller."""
        self._reserve(slot, 0, end)

    def check_integrity(self) -> None:
        """For tests: every block is free, or used as often as tables name it."""
        named = np.zeros(len(self._users), int)
        for slot, count in enumerate(self._blocks):
            np.add.at(named, self._tables[slot, :count], 1)
        assert named.tolist() == self._users, "users of blocks are miscounted"
        assert sorted(self._free) == np.flatnonzero(named == 0).tolist(), "a block is lost"

    def _reserve(self, slot: int, start: int, end: int) -> None:
        table, size = self._tables[slot], self._size
        assert start == self._lengths[slot], "positions follow on"
        for at in range(start // size, self._blocks[slot]):
            if self._users[table[at]] > 1:
                table[at] = self._copied(int(table[at]))
        for at in range(self._blocks[slot], -(-end // size)):
            table[at] = self._take()
            self._blocks[slot] = at + 1
        self._lengths[slot] = end

    def _copied(self, block: int) -> int:
        copy = self._take()
        for layer in self.layers:
            self._ops.copy_block(layer, block, copy)
        self._drop(block)
        return copy

    def _take(self) -> int:
        block = self._free.pop()
        self._users[block] = 1
        return block

    def _drop(self, block: int) -> None:
        self._users[block] -= 1
        if not self._users[block]:
            self._free.append(block)

    def _on_device(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._ops.device)
