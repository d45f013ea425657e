"""The choices of an answer that is not streamed."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferflux_api.generation import Delta
from inferflux_api.pipeline import Generation
from inferflux_core.engine.protocol import TokenReport
from inferflux_core.tool_calls.parser import ToolCallDelta

__all__ = ["Choice", "ToolCall", "collect", "gather"]


@dataclass(slots=True)
class ToolCall:
    """A call, as far as it has come; `arguments` is the text of a JSON object."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    def add(self, delta: ToolCallDelta) -> None:
        """Take in what is new."""
        self.id = delta.id or self.id
        self.name = delta.name or self.name
        self.arguments += delta.arguments


@dataclass(slots=True)
class Choice:
    """One choice, as far as it has come."""

    text: str = ""
    finish_reason: str = ""
    reports: list[TokenReport] = field(default_factory=list)
    prompt_reports: list[TokenReport] = field(default_factory=list)
    score: float = 0.0
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    stop_sequence: str | None = None

    def add(self, delta: Delta) -> None:
        """Take in what is new."""
        self.text += delta.text
        self.reasoning += delta.reasoning
        for call in delta.tool_calls:
            if call.index == len(self.tool_calls):
                self.tool_calls.append(ToolCall())
            self.tool_calls[call.index].add(call)
        self.reports += delta.reports
        self.prompt_reports += delta.prompt_reports
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
            self.score = delta.score
            self.stop_sequence = delta.stop_sequence


async def collect(generation: Generation) -> list[Choice]:
    """All choices to show, as `gather`; closes the generation."""
    try:
        return await gather(generation)
    finally:
        await generation.close()


async def gather(generation: Generation) -> list[Choice]:
    """All choices to show, those of the first prompt first; the generation stays open.

    Where more were generated than are to be shown, the best of each prompt are, and the best comes first.
    """
    found: dict[int, Choice] = {}
    async for delta in generation.deltas():
        found.setdefault(delta.index, Choice()).add(delta)
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
