"""Which tokens are computed together.

With a stream per sequence, llama.cpp packs into one pass only sequences with consecutive ids and equally
many tokens. A pass costs something of its own, mostly reading the weights, so a pass over several sequences
is worth it while they are short, and so is a dummy row in an idle slot that joins two runs of busy ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.runner import Work

__all__ = ["Pass", "PassPlanner", "best_chunk"]

_SHARE_BELOW: Final = 0.8
"""Whoever shares a pass waits for all of it: it must cost clearly less than passes one by one."""
_PAD_BELOW: Final = 0.95
_CUT_BELOW: Final = 0.9
_SHORTEST_CHUNK: Final = 128
_MOST_PADDING: Final = 3
"""Kernels that compute rows in fours are the reason to pad."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Tokens `start .. start + count - 1` of some works.

    Attributes:
        indices: positions of the works in the batch, in ascending order of their slots.
        start: the first token, counted from the work's first.
        count: tokens of each work.
        num_logits: after how many of these tokens of each work, from the last one, logits are wanted.
    """

    indices: Sequence[int]
    start: int
    count: int
    num_logits: Sequence[int]


class PassPlanner:
    """Cuts batches into passes.

    Args:
        max_tokens: of a pass.
        max_logits: rows of logits of a pass; at least the number of sequences.
        cost: what passes cost; without it, only single tokens share one.
    """

    def __init__(self, max_tokens: int, max_logits: int, cost: CostModel | None = None) -> None:
        self.max_tokens = max_tokens
        self._max_logits = max_logits
        self._seconds = _seconds_by_tokens(cost, max_tokens) if cost else None

    def plan(self, batch: Sequence[Work], members: Sequence[int]) -> Iterator[Pass]:
        """Passes that compute some works of a batch, those with the fewest tokens first."""
        by_length: dict[int, list[int]] = {}
        for index in members:
            by_length.setdefault(len(batch[index].token_ids), []).append(index)
        for length in sorted(by_length):
            indices = by_length[length]
            if self._shares(length, [batch[i].num_logits for i in indices]):
                yield from self._together(batch, indices, length)
            else:
                for index in indices:
                    yield from self._alone(index, length, batch[index].num_logits)

    def companions(
        self, slots: Sequence[int], count: int, fits: Callable[[int], bool]
    ) -> list[int]:
        """Idle slots in which to compute dummy tokens along, because that is cheaper than not to.

        Args:
            slots: those of a pass, in ascending order.
            count: tokens of each.
            fits: whether a slot can take dummy tokens.
        """
        seconds = self._seconds
        if seconds is None:
            return []
        if slots[-1] - slots[0] + 1 == len(slots):
            return self._padding(slots, fits) if count == 1 else []
        chosen: list[int] = []
        size = 0
        for left, right in pairwise(_runs(slots)):
            size += len(left)
            gap = range(left[-1] + 1, right[0])
            joined = (size + len(gap) + len(right)) * count
            apart = seconds[size * count] + seconds[len(right) * count]
            if joined < len(seconds) and seconds[joined] <= apart and all(map(fits, gap)):
                chosen += gap
                size += len(gap)
            else:
                size = 0
        return chosen

    def _padding(self, slots: Sequence[int], fits: Callable[[int], bool]) -> list[int]:
        seconds, rows = self._seconds, len(slots)
        assert seconds is not None
        best: list[int] = []
        for extra in range(1, min(_MOST_PADDING, len(seconds) - 1 - rows) + 1):
            if not fits(slots[-1] + extra):
                break
            if seconds[rows + extra] < _PAD_BELOW * seconds[rows + len(best)]:
                best = list(range(slots[-1] + 1, slots[-1] + extra + 1))
        return best

    def _shares(self, length: int, num_logits: Sequence[int]) -> bool:
        if length == 1:
            return True
        seconds = self._seconds
        most = min(len(num_logits), self.max_tokens // length)
        if seconds is None or most < 2 or max(num_logits) > self._max_logits:
            return False
        return seconds[most * length] <= _SHARE_BELOW * most * seconds[length]

    def _together(self, batch: Sequence[Work], indices: list[int], length: int) -> Iterator[Pass]:
        """Works of one length, in as few passes as tokens and logits allow."""
        members: list[int] = []
        rows: list[int] = []
        room = self._max_logits
        for index in sorted(indices, key=lambda i: batch[i].slot):
            wanted = batch[index].num_logits
            if members and (wanted > room or (len(members) + 1) * length > self.max_tokens):
                yield Pass(members, 0, length, rows)
                members, rows, room = [], [], self._max_logits
            members.append(index)
            rows.append(wanted)
            room -= wanted
        yield Pass(members, 0, length, rows)

    def _alone(self, index: int, length: int, num_logits: int) -> Iterator[Pass]:
        """One work, cut where a pass would have too many tokens or too many logits."""
        start, quiet = 0, length - num_logits
        while start < length:
            without = max(quiet - start, 0)
            count = min(length - start, self.max_tokens, without + self._max_logits)
            if without and start + count < length:
                count = min(count, without)  # rows of logits are not to be parted needlessly
            yield Pass([index], start, count, [max(count - without, 0)])
            start += count


def best_chunk(cost: CostModel, most: int) -> int:
    """The number of prompt tokens of a pass at which a token costs least; the most, unless it is dear."""
    rates = {n: seconds / n for n, seconds in cost.prefill if _SHORTEST_CHUNK <= n <= most}
    if not rates:
        return most
    best, largest = min(rates, key=rates.__getitem__), max(rates)
    return best if rates[best] < _CUT_BELOW * rates[largest] else most


def _runs(slots: Sequence[int]) -> list[Sequence[int]]:
    """Cut ascending numbers into runs of consecutive ones."""
    breaks = [i for i in range(1, len(slots)) if slots[i] != slots[i - 1] + 1]
    return [slots[i:j] for i, j in pairwise([0, *breaks, len(slots)])]


def _seconds_by_tokens(cost: CostModel, most: int) -> list[float]:
    """What a pass of several sequences costs, by tokens in all.

    Beyond the decode passes that were measured, prompts say by how much another token adds.
    """
    rows = cost.decode[-1][0]
    beyond = cost.decode_seconds(rows) - cost.prefill_seconds(rows)
    return [
        cost.decode_seconds(n) if n <= rows else max(cost.prefill_seconds(n) + beyond, 0.0)
        for n in range(most + 1)
    ]
