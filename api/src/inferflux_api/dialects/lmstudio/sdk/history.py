"""Conversations as the SDKs send them."""

from __future__ import annotations

import json
from typing import Any

from inferflux_core.errors import InvalidRequestError

__all__ = ["plain_text", "template_messages"]


def template_messages(history: object) -> list[dict[str, Any]]:
    """Messages for a chat template.

    Raises:
        InvalidRequestError: the history is malformed, or holds what is not text.
    """
    return [each for message in _messages(history) for each in _message(message)]


def plain_text(history: object) -> str:
    """All texts, one after the other: what is to be continued.

    Raises:
        InvalidRequestError: as for `template_messages`.
    """
    return "".join(message["content"] for message in template_messages(history))


def _messages(history: object) -> list[dict[str, Any]]:
    messages = history.get("messages") if isinstance(history, dict) else None
    if not (isinstance(messages, list) and all(isinstance(m, dict) for m in messages)):
        raise InvalidRequestError("a history holds a list of messages", param="history")
    return messages


def _message(message: dict[str, Any]) -> list[dict[str, Any]]:
    role, parts = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant", "tool") or not isinstance(parts, list):
        raise InvalidRequestError("a message needs a role and a list of parts", param="history")
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            text.append(_text(part.get("text")))
        elif kind == "toolCallRequest":
            calls.append(_call(part.get("toolCallRequest")))
        elif kind == "toolCallResult":
            results.append(_result(part))
        else:
            raise InvalidRequestError(
                f"parts of type {kind!r} are not supported by this model", param="history"
            )
    if role == "tool":
        return results
    result: dict[str, Any] = {"role": role, "content": "".join(text)}
    if calls:
        result["tool_calls"] = calls
    return [result]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError("the text of a part must be a text", param="history")
    return value


def _call(request: object) -> dict[str, Any]:
    if not isinstance(request, dict) or not isinstance(request.get("name"), str):
        raise InvalidRequestError("a tool call request needs a name", param="history")
    arguments = json.dumps(request.get("arguments") or {})
    return {
        "id": request.get("id"),
        "type": "function",
        "function": {"name": request["name"], "arguments": arguments},
    }


def _result(part: dict[str, Any]) -> dict[str, Any]:
    result = {"role": "tool", "content": _text(part.get("content"))}
    call_id = part.get("toolCallId")
    return result | ({"tool_call_id": call_id} if isinstance(call_id, str) else {})
