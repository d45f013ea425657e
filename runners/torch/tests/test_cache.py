"""Blocks of keys and values: who holds them, and where tokens lie in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferflux_core.engine.runner import Work
from inferflux_runner_torch.cache import PagedCache
from inferflux_runner_torch.ops import TorchOps

CPU = torch.device("cpu")
BLOCK, SLOTS, CAPACITY = 4, 3, 18


def new_cache() -> PagedCache:
    ops = TorchOps(CPU, torch.float32, torch.float32, BLOCK)
    return PagedCache(ops, layers=2, heads=1, head=2, slots=SLOTS, capacity=CAPACITY)


@pytest.fixture
def cache() -> Iterator[PagedCache]:
    cache = new_cache()
    yield cache
    cache.check_integrity()


def written(cache: PagedCache, cells: torch.Tensor, tokens: list[int]) -> None:
    """Write something that tells tokens and layers apart."""
    numbers = torch.tensor(tokens, dtype=torch.float32).view(-1, 1, 1)
    for number, layer in enumerate(cache.layers):
        both = numbers.expand(-1, 1, 2) + 1000 * number
        layer.keys[cells], layer.values[cells] = both, -both


def append(cache: PagedCache, slot: int, tokens: list[int]) -> None:
    rows = cache.append([Work(slot, cache.length(slot), tokens)])
    written(cache, rows.cells, tokens)


def held(cache: PagedCache, slot: int) -> list[int]:
    """The tokens of a slot, of which every layer must tell the same."""
    cells = cache.cells(slot, 0, cache.length(slot))
    tokens = cache.layers[0].keys[cells][:, 0, 0]
    for number, layer in enumerate(cache.layers):
        assert torch.equal(layer.keys[cells][:, 0, 1], tokens + 1000 * number)
        assert torch.equal(layer.values[cells][:, 0, 0], -tokens - 1000 * number)
    return [int(token) for token in tokens.tolist()]


def test_rows_of_a_mixed_batch(cache: PagedCache) -> None:
    append(cache, 2, [1, 2, 3])
    append(cache, 0, [4])
    rows = cache.append([Work(2, 3, [5, 6]), Work(1, 0, [7, 8, 9, 10, 11]), Work(0, 1, [12])])
    assert rows.lengths == [2, 5, 1]
    assert rows.ends == [5, 5, 2]
    assert rows.starts.tolist() == [0, 2, 7, 8]
    assert rows.contexts.tolist() == rows.ends
    assert rows.positions.tolist() == [3, 4, 0, 1, 2, 3, 4, 1]
    assert rows.block_tables.shape == (3, 2)
    assert (rows.starts.dtype, rows.cells.dtype) == (torch.int32, torch.int64)
    tables = rows.block_tables.tolist()
    owners = [0, 0, 1, 1, 1, 1, 1, 2]
    assert rows.cells.tolist() == [
        tables[owner][at // BLOCK] * BLOCK + at % BLOCK
        for owner, at in zip(owners, rows.positions.tolist(), strict=True)
    ]
    assert len(set(rows.cells.tolist())) == 8


def test_every_slot_can_be_filled(cache: PagedCache) -> None:
    for slot in range(SLOTS):
        append(cache, slot, list(range(100 * slot, 100 * slot + CAPACITY)))
    for slot in range(SLOTS):
        assert held(cache, slot) == list(range(100 * slot, 100 * slot + CAPACITY))


def test_who_goes_on_with_a_shared_block_gets_a_copy(cache: PagedCache) -> None:
    append(cache, 0, [1, 2, 3, 4, 5, 6])
    cache.share(0, 1, 6)
    cache.share(0, 2, 6)
    shared = cache.cells(0, 0, 6)
    assert torch.equal(cache.cells(1, 0, 6), shared)
    append(cache, 1, [7])
    append(cache, 0, [8, 9, 10])
    assert torch.equal(cache.cells(1, 0, 4), shared[:4])
    # The last of the three is alone with it by now.
    append(cache, 2, [11])
    assert torch.equal(cache.cells(2, 0, 6), shared)
    assert held(cache, 0) == [1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert held(cache, 1) == [1, 2, 3, 4, 5, 6, 7]
    assert held(cache, 2) == [1, 2, 3, 4, 5, 6, 11]


def test_a_part_can_be_shared(cache: PagedCache) -> None:
    append(cache, 0, list(range(10)))
    cache.share(0, 1, 5)
    append(cache, 1, [50, 51, 52, 53])
    assert held(cache, 0) == list(range(10))
    assert held(cache, 1) == [0, 1, 2, 3, 4, 50, 51, 52, 53]


class Holders(RuleBasedStateMachine):
    """Slots that grow, share, shrink and leave in any order hold what lists would."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = new_cache()
        self.expected: list[list[int]] = [[] for _ in range(SLOTS)]
        self.next = 1

    @rule(slot=st.integers(0, SLOTS - 1), count=st.integers(1, 7))
    def grow(self, slot: int, count: int) -> None:
        count = min(count, CAPACITY - len(self.expected[slot]))
        if count:
            tokens = list(range(self.next, self.next + count))
            self.next += count
            append(self.cache, slot, tokens)
            self.expected[slot] += tokens

    @rule(slot=st.integers(0, SLOTS - 1), share=st.floats(0, 1))
    def shrink(self, slot: int, share: float) -> None:
        keep = round(share * len(self.expected[slot]))
        self.cache.truncate(slot, keep)
        del self.expected[slot][keep:]

    @rule(slot=st.integers(0, SLOTS - 1))
    def leave(self, slot: int) -> None:
        self.cache.release(slot)
        self.expected[slot] = []

    @precondition(lambda self: not all(self.expected))
    @rule(slot=st.integers(0, SLOTS - 1), part=st.floats(0, 1))
    def share(self, slot: int, part: float) -> None:
        to = self.expected.index([])
        count = round(part * len(self.expected[slot]))
        if to != slot and count:
            self.cache.share(slot, to, count)
            self.expected[to] = self.expected[slot][:count]

    @invariant()
    def everything_is_there(self) -> None:
        self.cache.check_integrity()
        assert [held(self.cache, slot) for slot in range(SLOTS)] == self.expected


TestHolders = Holders.TestCase
TestHolders.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
