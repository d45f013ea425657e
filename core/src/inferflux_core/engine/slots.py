"""Which of the runner's sequences are taken."""

from __future__ import annotations

import heapq

__all__ = ["SlotPool"]


class SlotPool:
    """Hands out the lowest free slot, which keeps the active ones close together.

    llama.cpp batches sequences of separate streams only as runs of consecutive ids, so every hole
    among the active slots costs a pass over the weights.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = list(range(size))
        self._used: set[int] = set()

    @property
    def in_use(self) -> list[int]:
        """The slots that are taken, lowest first."""
        return sorted(self._used)

    def allocate(self) -> int:
        """Take the lowest free slot.

        Raises:
            RuntimeError: all are taken; the scheduler admitted more than it may.
        """
        if not self._free:
            raise RuntimeError(f"all {self._size} slots are taken")
        slot = heapq.heappop(self._free)
        self._used.add(slot)
        return slot

    def claim(self, slot: int) -> None:
        """Take a certain slot, which is free."""
        self._free.remove(slot)
        heapq.heapify(self._free)
        self._used.add(slot)

    def free(self, slot: int) -> None:
        """Give a slot back."""
        self._used.remove(slot)
        heapq.heappush(self._free, slot)

    def check_integrity(self) -> None:
        """Assert that every slot is either free or taken; for tests."""
        assert sorted([*self._free, *self._used]) == list(range(self._size))
