from __future__ import annotations

import pytest

from inferflux_core.engine.compaction import moves_to_close_holes


@pytest.mark.parametrize(
    ("active", "moves"),
    [
        ([], []),
        ([7], []),
        ([0, 1, 2, 3], []),
        ([4, 5, 6], []),
        ([0, 1, 3, 4, 5], []),
        ([0, 1, 3, 4, 6], [(6, 2)]),
        ([0, 9], [(9, 1)]),
        ([2, 5, 9], [(9, 3), (5, 4)]),
    ],
)
def test_the_highest_fill_the_lowest_holes(active: list[int], moves: list[tuple[int, int]]) -> None:
    assert moves_to_close_holes(active) == moves


def test_moves_leave_few_holes_and_never_meet() -> None:
    active = [0, 3, 4, 10, 11, 12, 20, 31]
    taken = set(active)
    for slot, to in moves_to_close_holes(active):
        assert slot in taken
        assert to not in taken
        taken ^= {slot, to}
    holes = max(taken) - min(taken) + 1 - len(taken)
    assert len(taken) == len(active)
    assert holes <= len(taken) / 4
