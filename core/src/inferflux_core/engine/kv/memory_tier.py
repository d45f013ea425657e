"""Blocks in main memory. Contents are opaque: what a runner exported, the same runner can import."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

__all__ = ["MemoryTier"]


class MemoryTier:
    """Blocks by name, least recently used ones dropped first.

    Args:
        capacity: bytes of content to keep; 0 keeps nothing.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._blocks: OrderedDict[bytes, bytes] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, name: bytes) -> bool:
        return name in self._blocks

    def match(self, names: Sequence[bytes]) -> list[bytes]:
        """Contents of the longest run of blocks, from the first one, that is here."""
        found = []
        for name in names:
            block = self._blocks.get(name)
            if block is None:
                break
            found.append(block)
        # The end of a prefix is worth less than its beginning, so it is to be dropped sooner.
        for name in reversed(names[: len(found)]):
            self._blocks.move_to_end(name)
        return found

    def missing(self, names: Sequence[bytes]) -> int:
        """Index of the first block that is not here."""
        return next((i for i, name in enumerate(names) if name not in self._blocks), len(names))

    def store(self, name: bytes, content: bytes) -> None:
        """Keep a block, and drop others to make room."""
        if name in self._blocks or len(content) > self.capacity:
            return
        self._blocks[name] = content
        self.size += len(content)
        while self.size > self.capacity:
            _, dropped = self._blocks.popitem(last=False)
            self.size -= len(dropped)

    def check_integrity(self) -> None:
        """Assert that sizes add up; for tests."""
        assert self.size == sum(len(block) for block in self._blocks.values()) <= self.capacity
