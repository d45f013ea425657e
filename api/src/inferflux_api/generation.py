"""What dialects ask the pipeline for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from inferflux_api.conversation import NO_TOOLS, Conversation, ToolUse
from inferflux_core.engine.protocol import AdapterUse, Prompt, TokenReport
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.tool_calls.parser import ToolCallDelta

__all__ = ["LOWEST_PRIORITY", "Delta", "Echo", "GenerationRequest", "Usage"]

LOWEST_PRIORITY: Final = 1000
"""Of requests that wait until nothing else does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What a dialect asks for.

    Attributes:
        model: name, or None for the only one.
        prompts: one or more; the dialect counts choices over all of them.
        params: for every prompt.
        n: choices per prompt.
        best_of: choices to generate per prompt, of which a dialect shows the `n` with the best scores.
        echo: whether the prompts are shown too.
        priority: lower goes first.
        adapters: applied together.
        tools: that answers may call; see `Conversation`.
    """

    model: str | None
    prompts: list[Prompt]
    params: SamplingParams
    n: int = 1
    best_of: int | None = None
    echo: bool = False
    priority: int = 0
    adapters: list[AdapterUse] = field(default_factory=list)
    tools: ToolUse = NO_TOOLS

    @classmethod
    def of_chat(
        cls, model: str | None, conversation: Conversation, params: SamplingParams, **rest: Any
    ) -> GenerationRequest:
        """A request to answer a conversation.

        Args:
            model: name, or None for the only one.
            conversation: to answer.
            params: without what the conversation's tools demand.
            rest: other attributes.

        Raises:
            InvalidRequestError: its parts do not go together.
        """
        return cls(
            model=model,
            prompts=[conversation.prompt()],
            params=conversation.constrain(params),
            tools=conversation.tools,
            **rest,
        )

    def after_everything_else(self) -> GenerationRequest:
        """The same with the lowest priority there is."""
        return replace(self, priority=LOWEST_PRIORITY)

    @property
    def candidates(self) -> int:
        """Choices to generate per prompt."""
        return self.best_of or self.n


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new about a choice. The last delta of a choice has a finish reason.

    Attributes:
        index: of the choice; those of the first prompt come first.
        text: to show.
        finish_reason: why the choice ended: `stop`, `length`, `tool_calls` or `content_filter`.
        reports: of the tokens behind `text`, if they were asked for.
        prompt_reports: of the prompt's tokens from the second one on, likewise; once.
        score: with `best_of`, on the last delta; higher is better.
        reasoning: of the model, which is not part of the answer.
        tool_calls: what is new about calls.
        stop_sequence: the stop string that ended the choice, on the last delta.
    """

    index: int
    text: str
    finish_reason: str | None = None
    reports: list[TokenReport] = field(default_factory=list)
    prompt_reports: list[TokenReport] = field(default_factory=list)
    score: float = 0.0
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = field(default_factory=list)
    stop_sequence: str | None = None

    @property
    def shows_something(self) -> bool:
        """Whether there is anything to send."""
        return bool(
            self.text or self.reports or self.finish_reason or self.reasoning or self.tool_calls
        )


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt as it is shown: its text, and the bytes of its first token."""

    text: str
    first_piece: bytes


@dataclass(slots=True)
class Usage:
    """Tokens so far; those of reasoning are among the completion's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
