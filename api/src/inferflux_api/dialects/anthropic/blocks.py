"""Anthropic's content blocks as messages that chat templates expect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from inferflux_api.dialects.anthropic.schemas import InputMessage
from inferflux_core.errors import InvalidRequestError

__all__ = ["template_messages", "text_of"]

_REASONING: Final = ("thinking", "redacted_thinking")


def template_messages(
    system: str | list[dict[str, Any]] | None, messages: list[InputMessage]
) -> list[dict[str, Any]]:
    """A conversation for a chat template.

    Raises:
        InvalidRequestError: it holds blocks that are not text, or that stand where they may not.
    """
    result = [{"role": "system", "content": text_of(system, "system")}] if system else []
    for index, message in enumerate(messages):
        result += _messages(message, f"messages.{index}.content")
    return result


def text_of(content: Any, param: str) -> str:
    """The text of a string, or of text blocks.

    Raises:
        InvalidRequestError: it is neither, or a block is not text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise InvalidRequestError("a text or a list of blocks is needed here", param=param)
    return "\n".join(_text(block, f"{param}.{at}") for at, block in enumerate(content))


def _messages(message: InputMessage, param: str) -> Iterator[dict[str, Any]]:
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
    elif message.role == "assistant":
        yield _assistant(message.content, param)
    else:
        yield from _user(message.role, message.content, param)


def _assistant(blocks: list[dict[str, Any]], param: str) -> dict[str, Any]:
    text: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    for at, block in enumerate(blocks):
        where, kind = f"{param}.{at}", block.get("type")
        if kind == "tool_use":
            calls.append(_call(block, where))
        elif kind in _REASONING:
            # What is redacted only Anthropic could read.
            if isinstance(thought := block.get("thinking"), str):
                reasoning.append(thought)
        else:
            text.append(_text(block, where))
    result: dict[str, Any] = {"role": "assistant", "content": "\n".join(text)}
    if reasoning:
        result["reasoning_content"] = "\n".join(reasoning)
    if calls:
        result["tool_calls"] = calls
    return result


def _user(role: str, blocks: list[dict[str, Any]], param: str) -> Iterator[dict[str, Any]]:
    """Results of tools are messages of their own, and come before what the user says."""
    text: list[str] = []
    for at, block in enumerate(blocks):
        where = f"{param}.{at}"
        if block.get("type") != "tool_result":
            text.append(_text(block, where))
            continue
        call_id = block.get("tool_use_id")
        if not isinstance(call_id, str):
            raise InvalidRequestError("tool_use_id is missing", param=where)
        result = text_of(block.get("content"), f"{where}.content")
        if block.get("is_error"):
            result = f"Error: {result}"
        yield {"role": "tool", "tool_call_id": call_id, "content": result}
    if text:
        yield {"role": role, "content": "\n".join(text)}


def _call(block: dict[str, Any], where: str) -> dict[str, Any]:
    name, arguments = block.get("name"), block.get("input", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise InvalidRequestError("a tool_use block needs a name and an input object", param=where)
    return {
        "id": block.get("id"),
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
    }


def _text(block: object, where: str) -> str:
    if isinstance(block, dict):
        text = block.get("text")
        if block.get("type") == "text" and isinstance(text, str):
            return text
        raise InvalidRequestError(
            f"blocks of type {block.get('type')!r} are not supported here; send text", param=where
        )
    raise InvalidRequestError("a content block is an object", param=where)
