"""How the works of a batch are cut into passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from inferflux_core.engine.runner import Work

__all__ = ["Numbered", "plan_passes"]

Numbered = tuple[int, Work]
"""A work, or a part of one, and the position of the work in the batch."""


def plan_passes(batch: Sequence[Work], max_rows: int, max_logits: int) -> Iterator[list[Numbered]]:
    """Put as many works as fit into each pass; parts of a work are in different ones, in their order.

    Args:
        batch: of different slots.
        max_rows: tokens of a pass.
        max_logits: rows of logits of a pass.
    """
    waiting = [
        (index, list(_parts(work, max_rows, max_logits))) for index, work in enumerate(batch)
    ]
    while waiting:
        members: list[Numbered] = []
        rows = logits = 0
        left = []
        for index, parts in waiting:
            first = parts[0]
            tokens, wanted = len(first.token_ids), first.num_logits
            if rows + tokens <= max_rows and logits + wanted <= max_logits:
                members.append((index, first))
                rows, logits = rows + tokens, logits + wanted
                parts = parts[1:]
            if parts:
                left.append((index, parts))
        yield members
        waiting = left


def _parts(work: Work, max_rows: int, max_logits: int) -> Iterator[Work]:
    """A work, or if it is too long, its tokens without logits and then those with them."""
    total, wanted = len(work.token_ids), work.num_logits
    if total <= max_rows and wanted <= max_logits:
        yield work
        return
    body = total - wanted
    cuts = [*range(0, body, max_rows), *range(body, total, min(max_rows, max_logits)), total]
    for start, end in pairwise(cuts):
        yield replace(
            work,
            position=work.position + start,
            token_ids=work.token_ids[start:end],
            num_logits=end - start if start >= body else 0,
        )
