"""When to carry sequences over to other slots, so that active ones lie close together."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

__all__ = ["moves_to_close_holes"]

_TOLERATED: Final = Fraction(1, 4)
"""A hole costs a row in every step, a move once about as much as a step."""


def moves_to_close_holes(active: Sequence[int]) -> list[tuple[int, int]]:
    """Moves from the highest active slots into the lowest holes, while holes exceed a quarter of the rows.

    Idle slots below the first active one and above the last are no holes.

    Args:
        active: slots in use, in ascending order.

    Returns:
        Pairs of a slot in use and an idle one, to be carried out in this order.
    """
    slots = list(active)
    moves: list[tuple[int, int]] = []
    while slots and slots[-1] - slots[0] + 1 - len(slots) > _TOLERATED * len(slots):
        taken = set(slots)
        hole = next(slot for slot in range(slots[0], slots[-1]) if slot not in taken)
        moves.append((slots.pop(), hole))
        slots = sorted([*slots, hole])
    return moves
