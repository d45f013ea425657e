"""The choices of an answer that is not streamed."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferflux_api.pipeline import Delta, Generation
from inferflux_core.engine.protocol import TokenReport

__all__ = ["Choice", "collect"]


@dataclass(slots=True)
class Choice:
    """One choice, as far as it has come."""

    text: str = ""
    finish_reason: str = ""
    reports: list[TokenReport] = field(default_factory=list)
    prompt_reports: list[TokenReport] = field(default_factory=list)
    score: float = 0.0

    def add(self, delta: Delta) -> None:
        """Take in what is new."""
        self.text += delta.text
        self.reports += delta.reports
        self.prompt_reports += delta.prompt_reports
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
            self.score = delta.score


async def collect(generation: Generation) -> list[Choice]:
    """All choices to show, those of the first prompt first; closes the generation.

    Where more were generated than are to be shown, the best of each prompt are, and the best comes first.
    """
    found: dict[int, Choice] = {}
    try:
        async for delta in generation.deltas():
            found.setdefault(delta.index, Choice()).add(delta)
    finally:
        await generation.close()
    choices = [found[index] for index in sorted(found)]
    wanted = generation.request
    if wanted.best_of is None:
        return choices
    return [
        choice
        for start in range(0, len(choices), wanted.best_of)
        for choice in _best(choices[start : start + wanted.best_of], wanted.n)
    ]


def _best(candidates: list[Choice], count: int) -> list[Choice]:
    return sorted(candidates, key=lambda choice: choice.score, reverse=True)[:count]
