"""How likely a choice was, in the model's own eyes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inferflux_core.engine.protocol import RequestOutput

__all__ = ["Score"]


@dataclass(slots=True)
class Score:
    """The mean log-probability of the tokens of a choice, while they come."""

    total: float = 0.0
    count: int = 0

    def add(self, output: RequestOutput) -> None:
        """Count the tokens of an output."""
        self.total += sum(report.logprob for report in output.reports)
        self.count += len(output.reports)

    @property
    def mean(self) -> float:
        """Minus infinity before the first token."""
        return self.total / self.count if self.count else -math.inf
