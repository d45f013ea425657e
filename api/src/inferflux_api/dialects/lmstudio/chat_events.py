"""The events of a streamed chat, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from inferflux_api.dialects.lmstudio.errors import error_object
from inferflux_api.dialects.lmstudio.stats import tokens_per_second
from inferflux_api.generation import Delta
from inferflux_api.pipeline import Generation
from inferflux_core.errors import GuardrailBlockedError, InferFluxError

__all__ = ["ChatEvents", "chat_result", "cut_off"]

_encode = msgspec.json.encode


def chat_result(
    generation: Generation, text: str, reasoning: str, *, was_loaded: bool
) -> dict[str, Any]:
    """The body of a whole answer, without its id.

    Args:
        generation: that has ended.
        text: of the answer.
        reasoning: before it.
        was_loaded: whether the model was there already when the request came.
    """
    output = [{"type": "reasoning", "content": reasoning}] if reasoning else []
    usage = generation.usage
    stats: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "total_output_tokens": usage.completion_tokens,
        "reasoning_output_tokens": usage.reasoning_tokens,
        "tokens_per_second": tokens_per_second(generation),
        "time_to_first_token_seconds": generation.first_token_seconds,
    }
    if not was_loaded:
        stats["model_load_time_seconds"] = generation.load_seconds
    return {
        "model_instance_id": generation.model_name,
        "output": [*output, {"type": "message", "content": text}],
        "stats": stats,
    }


def cut_off() -> InferFluxError:
    """What is told of an answer that a guardrail has ended: this API has no reasons for an end."""
    return GuardrailBlockedError("a guardrail of this server cut the answer off")


class ChatEvents:
    """Events with names.

    Args:
        generation: that they tell of.
        was_loaded: whether the model was there already when the request came.
        keep: remembers the answer; returns its id, if it has one.
    """

    def __init__(
        self, generation: Generation, *, was_loaded: bool, keep: Callable[[str], str | None]
    ) -> None:
        self._generation = generation
        self._was_loaded = was_loaded
        self._keep = keep
        self._open: str | None = None
        self._reasoning: list[str] = []
        self._text: list[str] = []
        self._cut_off = False

    def start(self) -> bytes:
        """The prompt is processed already when this is sent: errors have their status."""
        name = self._generation.model_name
        events = _event("chat.start", {"model_instance_id": name})
        if not self._was_loaded:
            load = {"model_instance_id": name}
            seconds = {"load_time_seconds": self._generation.load_seconds}
            events += _event("model_load.start", load)
            events += _event("model_load.progress", load | {"progress": 1.0})
            events += _event("model_load.end", load | seconds)
        events += _event("prompt_processing.start", {})
        events += _event("prompt_processing.progress", {"progress": 1.0})
        return events + _event("prompt_processing.end", {})

    def delta(self, delta: Delta) -> bytes:
        """The events of a delta."""
        self._cut_off = delta.finish_reason == "content_filter"
        events = b""
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
            events += self._enter("reasoning") + _piece("reasoning.delta", delta.reasoning)
        if delta.text:
            self._text.append(delta.text)
            events += self._enter("message") + _piece("message.delta", delta.text)
        return events

    def error(self, error: InferFluxError) -> bytes:
        """What went wrong, and as much of the answer as there is; nobody can go on from it."""
        event = _event("error", {"error": error_object(error)})
        return self._enter(None) + event + self._chat_end(None)

    async def end(self) -> bytes:
        """The last events, with all of the answer."""
        if self._cut_off:
            return self.error(cut_off())
        return self._enter(None) + self._chat_end(self._keep("".join(self._text)))

    def _chat_end(self, response_id: str | None) -> bytes:
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        result = chat_result(self._generation, text, reasoning, was_loaded=self._was_loaded)
        if response_id is not None:
            result["response_id"] = response_id
        return _event("chat.end", {"result": result})

    def _enter(self, kind: str | None) -> bytes:
        if self._open == kind:
            return b""
        events = _event(f"{self._open}.end", {}) if self._open else b""
        self._open = kind
        return events + (_event(f"{kind}.start", {}) if kind else b"")


def _piece(kind: str, text: str) -> bytes:
    name = kind.encode()
    return b'event: %b\ndata: {"type":"%b","content":%b}\n\n' % (name, name, _encode(text))


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **fields}))
