"""How batches are cut into passes."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from inferflux_core.engine.runner import Work
from inferflux_runner_torch.passes import Numbered, plan_passes


def shape(members: Sequence[Numbered]) -> list[tuple[int, int, int, int]]:
    return [(i, work.position, len(work.token_ids), work.num_logits) for i, work in members]


def planned(batch: Sequence[Work], rows: int, logits: int) -> list[list[tuple[int, int, int, int]]]:
    return [shape(members) for members in plan_passes(batch, rows, logits)]


def test_prompts_and_next_tokens_share_a_pass() -> None:
    batch = [Work(3, 0, range(20), 0), Work(0, 9, [1]), Work(2, 4, [1, 2, 3], 3)]
    assert planned(batch, 24, 4) == [[(0, 0, 20, 0), (1, 9, 1, 1), (2, 4, 3, 3)]]


def test_what_does_not_fit_comes_later() -> None:
    batch = [Work(0, 0, range(20)), Work(1, 0, range(20)), Work(2, 7, [1])]
    assert planned(batch, 24, 8) == [[(0, 0, 20, 1), (2, 7, 1, 1)], [(1, 0, 20, 1)]]


def test_a_long_prompt_is_cut_before_its_logits() -> None:
    batch = [Work(0, 5, range(30), 12), Work(1, 0, range(4))]
    assert planned(batch, 10, 8) == [
        [(0, 5, 10, 0)],
        [(0, 15, 8, 0)],
        [(0, 23, 8, 8)],
        [(0, 31, 4, 4), (1, 0, 4, 1)],
    ]


@st.composite
def works(draw: st.DrawFn) -> list[Work]:
    slots = draw(st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=6))
    batch = []
    for slot in slots:
        count = draw(st.integers(1, 40))
        position = draw(st.integers(0, 50))
        logits = draw(st.integers(0, count))
        batch.append(Work(slot, position, list(range(position, position + count)), logits))
    return batch


@settings(max_examples=150, deadline=None)
@given(works(), st.integers(1, 24), st.integers(1, 9))
def test_every_token_is_computed_once_in_its_order(
    batch: list[Work], rows: int, logits: int
) -> None:
    tokens: list[list[int]] = [[] for _ in batch]
    wanted: list[list[int]] = [[] for _ in batch]
    for members in plan_passes(batch, rows, logits):
        assert 1 <= sum(len(work.token_ids) for _, work in members) <= rows
        assert sum(work.num_logits for _, work in members) <= logits
        assert len({index for index, _ in members}) == len(members)
        for index, work in members:
            assert work.slot == batch[index].slot
            assert work.position == batch[index].position + len(tokens[index])
            tokens[index] += work.token_ids
            wanted[index] += tokens[index][len(tokens[index]) - work.num_logits :]
    assert tokens == [work.token_ids for work in batch]
    ends = [len(work.token_ids) - work.num_logits for work in batch]
    assert wanted == [work.token_ids[end:] for work, end in zip(batch, ends, strict=True)]
