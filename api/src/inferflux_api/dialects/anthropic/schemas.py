"""What Anthropic clients send. Unknown fields are ignored, as clients send many; null means absent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

__all__ = ["CountTokensRequest", "InputMessage", "MessagesRequest"]

Probability = Annotated[float, Meta(ge=0, le=1)]


class InputMessage(msgspec.Struct, frozen=True):
    """One turn: text, or blocks."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class InputTool(msgspec.Struct, frozen=True):
    """A tool; those with a type other than `custom` run on Anthropic's side."""

    name: str
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None


class InputToolChoice(msgspec.Struct, frozen=True):
    """What the model may do with the tools."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, frozen=True):
    """Whether to reason first."""

    type: str
    budget_tokens: int | None = None


class OutputConfig(msgspec.Struct, frozen=True):
    """What the answer shall look like, and how much effort to spend."""

    format: dict[str, Any] | None = None
    effort: str | None = None


class CountTokensRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/messages/count_tokens`."""

    messages: Annotated[list[InputMessage], Meta(max_length=4096)]
    model: str | None = None
    system: str | list[dict[str, Any]] | None = None
    tools: list[InputTool] | None = None
    tool_choice: InputToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None


class MessagesRequest(CountTokensRequest, frozen=True, kw_only=True):
    """Body of `POST /v1/messages`."""

    max_tokens: int
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Probability | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
