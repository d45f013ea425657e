"""The events of a streamed chat, and what it comes to."""

from __future__ import annotations

from typing import Any

import msgspec

from inferflux_api.dialects.lmstudio.errors import error_object
from inferflux_api.dialects.lmstudio.stats import tokens_per_second
from inferflux_api.generation import Delta
from inferflux_api.pipeline import Generation
from inferflux_core.errors import InferFluxError

__all__ = ["ChatEvents", "chat_result"]

_encode = msgspec.json.encode


def chat_result(generation: Generation, text: str, reasoning: str) -> dict[str, Any]:
    """The body of a whole answer, without its id."""
    output = [{"type": "reasoning", "content": reasoning}] if reasoning else []
    usage = generation.usage
    return {
        "model_instance_id": generation.model.name,
        "output": [*output, {"type": "message", "content": text}],
        "stats": {
            "input_tokens": usage.prompt_tokens,
            "total_output_tokens": usage.completion_tokens,
            "reasoning_output_tokens": usage.reasoning_tokens,
            "tokens_per_second": tokens_per_second(generation),
            "time_to_first_token_seconds": generation.first_token_seconds,
            "model_load_time_seconds": generation.load_seconds,
        },
    }


class ChatEvents:
    """Events with names.

    Attributes:
        text: of the answer so far.
        failed: whether something went wrong.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._open: str | None = None
        self._reasoning = ""
        self.text = ""
        self.failed = False

    def start(self) -> bytes:
        """The prompt is processed already when this is sent: errors have their status."""
        return (
            _event("chat.start", {"model_instance_id": self._generation.model.name})
            + _event("prompt_processing.start", {})
            + _event("prompt_processing.progress", {"progress": 1.0})
            + _event("prompt_processing.end", {})
        )

    def delta(self, delta: Delta) -> bytes:
        """The events of a delta."""
        events = b""
        if delta.reasoning:
            self._reasoning += delta.reasoning
            events += self._enter("reasoning") + _piece("reasoning.delta", delta.reasoning)
        if delta.text:
            self.text += delta.text
            events += self._enter("message") + _piece("message.delta", delta.text)
        return events

    def error(self, error: InferFluxError) -> bytes:
        """What went wrong; `end` follows nevertheless."""
        self.failed = True
        return self._enter(None) + _event("error", {"error": error_object(error)})

    def end(self, response_id: str | None) -> bytes:
        """The last event, with all of the answer."""
        result = chat_result(self._generation, self.text, self._reasoning)
        if response_id is not None:
            result["response_id"] = response_id
        return self._enter(None) + _event("chat.end", {"result": result})

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
