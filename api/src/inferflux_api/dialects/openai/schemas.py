"""What OpenAI clients send. Unknown fields are ignored, as clients send many; null means absent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from inferflux_api.dialects.openai.constraints import ConstraintFields

__all__ = ["Adapter", "ChatMessage", "ChatRequest", "CompletionRequest", "StreamOptions"]

Stop = str | list[str] | None
Bias = dict[str, float] | None
Probability = Annotated[float, Meta(ge=0, le=1)]
Choices = Annotated[int, Meta(ge=1, le=16)]
Priority = Annotated[int, Meta(ge=-1000, le=1000)]


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter to apply, by name, and how strongly."""

    name: str
    scale: float = 1.0


class StreamOptions(msgspec.Struct, frozen=True):
    """What else to send in a stream."""

    include_usage: bool | None = None


class SamplingFields(ConstraintFields, frozen=True, kw_only=True):
    """Fields that both endpoints share; those after `logit_bias` are extensions that peers have too."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    n: Choices | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Stop = None
    seed: int | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: Bias = None
    top_k: int | None = None
    min_p: Probability | None = None
    typical_p: Probability | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    priority: Priority | None = None
    adapters: list[Adapter] | None = None


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_call_id: str | None = None


class ChatRequest(SamplingFields, frozen=True, kw_only=True):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """Body of `POST /v1/completions`."""

    prompt: str | list[Any]
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Choices | None = None
