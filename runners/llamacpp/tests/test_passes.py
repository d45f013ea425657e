"""How batches are cut into passes; no model needed."""

from __future__ import annotations

import pytest

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.runner import Work
from inferflux_runner_llamacpp.passes import Pass, PassPlanner, best_chunk

# A pass costs ten, a token one.
COST = CostModel(decode=((1, 11.0), (32, 42.0)), prefill=((64, 74.0), (512, 522.0)))
# Rows are computed in fours.
FOURS = CostModel(
    decode=((1, 4.0), (2, 8.0), (3, 12.0), (4, 6.0), (5, 10.0), (6, 14.0), (7, 18.0), (8, 12.0)),
    prefill=((64, 64.0),),
)


def work(slot: int, count: int, num_logits: int = 1) -> Work:
    return Work(slot, 0, list(range(count)), num_logits)


def plan(batch: list[Work], *, max_tokens: int = 512, max_logits: int = 64) -> list[Pass]:
    planner = PassPlanner(max_tokens, max_logits, COST)
    return list(planner.plan(batch, range(len(batch))))


def test_single_tokens_share_a_pass_in_the_order_of_slots() -> None:
    assert plan([work(3, 1), work(0, 1, 0), work(2, 1)]) == [Pass([1, 2, 0], 0, 1, [0, 1, 1])]


def test_short_works_of_equal_length_share_a_pass_and_others_do_not() -> None:
    passes = plan([work(0, 4, 4), work(1, 90), work(2, 4, 4), work(3, 1), work(4, 90), work(5, 5)])
    assert [item.indices for item in passes] == [[3], [0, 2], [5], [1], [4]]


def test_a_shared_pass_is_cut_where_logits_or_tokens_run_out() -> None:
    passes = plan([work(slot, 9, 9) for slot in range(8)], max_logits=32)
    assert [item.indices for item in passes] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    passes = plan([work(slot, 9, 1) for slot in range(8)], max_tokens=40)
    assert [item.indices for item in passes] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("length", [2, 64, 100, 512, 520, 600, 1100])
@pytest.mark.parametrize("wanted", [0, 1, 9, 64, 65, 2000])
def test_a_long_work_is_cut_into_pieces_that_fit(length: int, wanted: int) -> None:
    wanted = min(wanted, length)
    passes = plan([work(0, length, wanted)])
    position = 0
    for item in passes:
        assert item.start == position
        assert item.count <= 512
        position += item.count
        first_wanted = max(length - wanted, item.start)
        assert list(item.num_logits) == [max(position - first_wanted, 0)]
        assert item.num_logits[0] <= 64
    assert position == length
    if wanted <= 9:
        assert [item.num_logits[0] for item in passes][-1] == wanted, "rows in one output"


def test_without_measurements_only_single_tokens_share() -> None:
    planner = PassPlanner(512, 64)
    batch = [work(0, 4), work(1, 4), work(2, 1), work(3, 1)]
    assert [item.indices for item in planner.plan(batch, range(4))] == [[2, 3], [0], [1]]
    assert planner.companions([0, 2], 1, lambda slot: True) == []


def always(slot: int) -> bool:
    return True


@pytest.mark.parametrize(
    ("slots", "count", "expected"),
    [
        ([4, 5, 6], 1, []),
        ([0, 2, 3], 1, [1]),
        ([0, 10], 1, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ([0, 13], 1, []),
        ([0, 13, 15], 1, [14]),
        ([0, 2], 9, [1]),
        ([0, 3], 9, []),
    ],
)
def test_gaps_are_filled_while_that_costs_less_than_another_pass(
    slots: list[int], count: int, expected: list[int]
) -> None:
    assert PassPlanner(512, 64, COST).companions(slots, count, always) == expected


def test_a_gap_that_has_no_room_stays() -> None:
    planner = PassPlanner(512, 64, COST)
    assert planner.companions([0, 2, 4], 1, lambda slot: slot != 1) == [3]


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ([0], []),
        ([0, 1], [2, 3]),
        ([5, 6, 7], [8]),
        ([0, 1, 2, 3], []),
        ([0, 1, 2, 3, 4, 5], [6, 7]),
    ],
)
def test_rows_are_padded_to_where_kernels_are_faster(slots: list[int], expected: list[int]) -> None:
    assert PassPlanner(512, 64, FOURS).companions(slots, 1, always) == expected


def test_padding_needs_idle_slots_above() -> None:
    assert PassPlanner(512, 64, FOURS).companions([0, 1, 2], 1, lambda slot: slot < 3) == []


@pytest.mark.parametrize(
    ("seconds", "chunk"),
    [
        ((0.1, 0.2, 0.4), 512),
        ((0.1, 0.19, 0.39), 512),
        ((0.1, 0.2, 0.6), 128),
        ((0.1, 0.15, 0.4), 256),
    ],
)
def test_chunks_are_as_long_as_they_are_cheap(
    seconds: tuple[float, float, float], chunk: int
) -> None:
    points = tuple(zip((128, 256, 512), seconds, strict=True))
    assert best_chunk(CostModel(decode=((1, 1.0),), prefill=points), 512) == chunk
