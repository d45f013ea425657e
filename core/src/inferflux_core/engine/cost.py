"""What passes cost on this machine, as measured: the ground of every choice between two ways to compute."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CostModel"]

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """Seconds per pass.

    Attributes:
        decode: `(rows, seconds)` in ascending order: a pass that computes one token of each of `rows`
            sequences. A verification of drafts costs what as many rows of decoding do.
        prefill: `(tokens, seconds)` in ascending order: a pass over one chunk of one prompt.
        copy_seconds_per_token: to export, or to import, the keys and values of one token.
    """

    decode: Points
    prefill: Points
    copy_seconds_per_token: float = 0.0

    def decode_seconds(self, rows: int) -> float:
        """A pass with one token of each of `rows` sequences; 0 for no rows."""
        return _interpolate(self.decode, rows) if rows else 0.0

    def prefill_seconds(self, tokens: int) -> float:
        """A chunk of one prompt; 0 for no tokens."""
        return _interpolate(self.prefill, tokens) if tokens else 0.0

    def prefill_tokens_within(self, seconds: float, quantum: int) -> int:
        """The largest multiple of `quantum` whose chunk takes at most `seconds`; at least one quantum."""
        rate = self.prefill[-1][1] / self.prefill[-1][0]
        count = max(1, int(seconds / rate) // quantum)
        while count > 1 and self.prefill_seconds(count * quantum) > seconds:
            count -= 1
        return count * quantum


def _interpolate(points: Sequence[tuple[int, float]], x: int) -> float:
    """Piecewise linear between points, and along the last piece beyond them."""
    if len(points) == 1:
        return points[0][1] * x / points[0][0]
    right = min(max(bisect_left(points, (x, 0.0)), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return max(y0 + (y1 - y0) * (x - x0) / (x1 - x0), 0.0)
