"""Conversations with tools, as chat templates want them."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from inferflux_core.tool_calls.formats import ToolFormat

__all__ = ["for_template"]

_INSTRUCTIONS: Final = (
    "You may call tools to answer the user. These tools exist, with JSON Schemas of their arguments:\n"
    "<tools>\n{tools}\n</tools>\n"
    "To call a tool, answer with nothing but its name and arguments as JSON, like this:\n"
    '<tool_call>\n{{"name": "tool", "arguments": {{"key": "value"}}}}\n</tool_call>'
)
_MISTRAL_ID_LENGTH: Final = 9


def for_template(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    tool_format: ToolFormat,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """Messages and tools that a template of this format renders.

    Arguments become objects, which templates expect. For templates that know nothing of tools, tools
    are explained in the system message, and calls and their results become text.
    """
    if not tools and not any(m.get("tool_calls") or m["role"] == "tool" for m in messages):
        return messages, None
    messages = [_with_objects(message) for message in messages]
    if tool_format.name == "generic":
        return _as_text(messages, tools or []), None
    if tool_format.name.startswith("mistral"):
        messages = [_with_short_ids(message) for message in messages]
    return messages, tools or None


def _with_objects(message: dict[str, Any]) -> dict[str, Any]:
    if not (calls := message.get("tool_calls")):
        return message
    return {**message, "tool_calls": [_with_object(call) for call in calls]}


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            # A model wrote it, so it may be anything; the template gets what there is.
            return call
    return {**call, "function": {**function, "arguments": arguments or {}}}


def _with_short_ids(message: dict[str, Any]) -> dict[str, Any]:
    """Mistral's templates refuse ids that do not have nine characters."""
    message = dict(message)
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [
            {**c, "id": _short(str(c["id"]))} if c.get("id") else c for c in calls
        ]
    if message.get("tool_call_id"):
        message["tool_call_id"] = _short(message["tool_call_id"])
    return message


def _short(call_id: str) -> str:
    if len(call_id) == _MISTRAL_ID_LENGTH and call_id.isalnum():
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:_MISTRAL_ID_LENGTH]


def _as_text(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    result = [_plain(message) for message in messages]
    if not tools:
        return result
    functions = "\n".join(
        json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools
    )
    instructions = _INSTRUCTIONS.format(tools=functions)
    if result and result[0]["role"] == "system":
        first = {**result[0], "content": f"{result[0]['content']}\n\n{instructions}"}
        return [first, *result[1:]]
    return [{"role": "system", "content": instructions}, *result]


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content") or ""
    if message["role"] in ("tool", "function"):
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    calls = message.get("tool_calls") or []
    if not calls:
        return message
    lines = [content] if content else []
    for call in calls:
        function = call.get("function") or {}
        text = json.dumps(
            {"name": function.get("name"), "arguments": function.get("arguments")},
            ensure_ascii=False,
        )
        lines.append(f"<tool_call>\n{text}\n</tool_call>")
    return {"role": message["role"], "content": "\n".join(lines)}
