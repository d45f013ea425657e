"""Messages as OpenAI's clients send them, for chat templates."""

from __future__ import annotations

from typing import Any

from inferflux_api.dialects.openai.schemas import ChatMessage
from inferflux_core.errors import InvalidRequestError

__all__ = ["template_message", "text_of"]

_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


def template_message(message: ChatMessage) -> dict[str, Any]:
    """A message as chat templates expect it: plain text, and `system` for `developer`.

    Raises:
        InvalidRequestError: it has parts that are not text.
    """
    role = "system" if message.role == "developer" else message.role
    result: dict[str, Any] = {"role": role, "content": text_of(message.content)}
    for name in ("name", "tool_call_id"):
        if (value := getattr(message, name)) is not None:
            result[name] = value
    if message.tool_calls:
        result["tool_calls"] = [_call(call) for call in message.tool_calls]
    elif message.function_call:
        result["tool_calls"] = [{"type": "function", "function": message.function_call}]
    if reasoning := message.reasoning_content or message.reasoning:
        result["reasoning_content"] = reasoning
    return result


def text_of(content: str | list[dict[str, Any]] | None) -> str:
    """The text of a message, or of its parts one after another.

    Raises:
        InvalidRequestError: a part is not text.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = []
    for part in content:
        kind = part.get("type")
        text = part.get("refusal" if kind == "refusal" else "text")
        if kind not in _TEXT_PARTS or not isinstance(text, str):
            raise InvalidRequestError(
                f"content parts of type {kind!r} are not supported by this model", param="messages"
            )
        parts.append(text)
    return "".join(parts)


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequestError("a tool call needs a function with a name", param="messages")
    return call
