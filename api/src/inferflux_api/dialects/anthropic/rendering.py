"""From our answers to Anthropic's, whole and streamed."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from inferflux_api.choices import Choice
from inferflux_api.dialects.anthropic.errors import error_event
from inferflux_api.generation import Delta, Usage
from inferflux_api.pipeline import Generation
from inferflux_core.errors import InferFluxError
from inferflux_core.tool_calls.parser import ToolCallDelta

__all__ = ["MessageRenderer", "message_body"]

_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_SIGNATURE: Final = ""
"""Nothing signs reasoning here; clients send it back as it came."""

_encode = msgspec.json.encode


def message_body(generation: Generation, choice: Choice) -> bytes:
    """The whole message."""
    content: list[dict[str, Any]] = []
    if choice.reasoning:
        content.append({"type": "thinking", "thinking": choice.reasoning, "signature": _SIGNATURE})
    if choice.text or not choice.tool_calls:
        content.append({"type": "text", "text": choice.text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _object(call.arguments)}
        for call in choice.tool_calls
    ]
    return _encode(
        {
            **_identity(generation),
            "content": content,
            **_ending(choice.finish_reason, choice.stop_sequence),
            "usage": _usage(generation.usage),
        }
    )


class MessageRenderer:
    """The events of a streamed message: blocks strictly one after another."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._index = -1
        self._open: str | None = None
        self._ending: dict[str, Any] = {}
        # Opened by the first delta of a block, the same for all that follow.
        self._head = b""

    def start(self) -> bytes:
        """The message, without content."""
        message = {
            **_identity(self._generation),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(self._generation.usage),
        }
        return _event("message_start", {"message": message}) + _event("ping", {})

    def delta(self, delta: Delta) -> bytes:
        """The events for a delta."""
        events = b""
        opening: dict[str, Any]
        if delta.reasoning:
            opening = {"type": "thinking", "thinking": "", "signature": ""}
            events += self._enter("thinking", opening, b'"thinking_delta","thinking":')
            events += self._piece(delta.reasoning)
        if delta.text:
            opening = {"type": "text", "text": ""}
            events += self._enter("text", opening, b'"text_delta","text":')
            events += self._piece(delta.text)
        for call in delta.tool_calls:
            events += self._call(call)
        if delta.finish_reason is not None:
            self._ending = _ending(delta.finish_reason, delta.stop_sequence)
        return events

    async def end(self) -> bytes:
        """What closes the message."""
        events = b""
        if self._index < 0:
            events = self._enter("text", {"type": "text", "text": ""}, b"")
        events += self._leave()
        events += _event(
            "message_delta", {"delta": self._ending, "usage": _usage(self._generation.usage)}
        )
        return events + _event("message_stop", {})

    def error(self, error: InferFluxError) -> bytes:
        """The last event, when something went wrong on the way."""
        return error_event(error)

    def _call(self, call: ToolCallDelta) -> bytes:
        events = b""
        if call.id is not None:
            opening: dict[str, Any] = {
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": {},
            }
            events = self._leave()
            events += self._enter("tool_use", opening, b'"input_json_delta","partial_json":')
        return events + (self._piece(call.arguments) if call.arguments else b"")

    def _enter(self, kind: str, opening: dict[str, Any], delta_head: bytes) -> bytes:
        """Open a block, unless one of its kind is open."""
        if self._open == kind:
            return b""
        events = self._leave()
        self._index += 1
        self._open = kind
        self._head = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":%b' % (self._index, delta_head)
        )
        return events + _event(
            "content_block_start", {"index": self._index, "content_block": opening}
        )

    def _piece(self, text: str) -> bytes:
        return self._head + _encode(text) + b"}}\n\n"

    def _leave(self) -> bytes:
        if self._open is None:
            return b""
        events = b""
        if self._open == "thinking":
            delta = {"type": "signature_delta", "signature": _SIGNATURE}
            events = _event("content_block_delta", {"index": self._index, "delta": delta})
        self._open = None
        return events + _event("content_block_stop", {"index": self._index})


def _identity(generation: Generation) -> dict[str, Any]:
    return {
        "id": f"msg_{generation.id}",
        "type": "message",
        "role": "assistant",
        "model": generation.model_name,
    }


def _ending(finish_reason: str, stop_sequence: str | None) -> dict[str, Any]:
    reason = "stop_sequence" if stop_sequence is not None else _STOP_REASONS[finish_reason]
    return {"stop_reason": reason, "stop_sequence": stop_sequence}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _object(arguments: str) -> dict[str, Any]:
    """The input of a call; one that was cut off has none that could be read."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **fields}))
