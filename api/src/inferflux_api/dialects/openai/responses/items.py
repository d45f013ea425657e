"""Items of input and output: read from clients, and turned into messages for chat templates.

An item that has been read has an `id`, a `type` and the fields that clients expect when they list it.
What the model wrote is kept in the same shape, so that a turn can be continued from either.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

from inferflux_core.errors import InvalidRequestError

__all__ = ["Item", "input_items", "item_id", "messages_of"]

Item = dict[str, Any]
Find = Callable[[str], Item | None]

_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text", "refusal"})
_ROLES: Final = frozenset({"user", "system", "developer", "assistant"})


def item_id(prefix: str) -> str:
    """A new name for an item; `prefix` tells its kind."""
    return f"{prefix}_{secrets.token_hex(16)}"


def input_items(given: str | list[Item] | None, find: Find) -> list[Item]:
    """The items of a request.

    Args:
        given: a text, which is a message of the user, or items.
        find: the item with an id, if it is known.

    Raises:
        InvalidRequestError: an item is malformed, or of a kind that does not exist here.
    """
    if given is None:
        return []
    if isinstance(given, str):
        return [_message({"role": "user", "content": given}, "input")]
    return [_item(item, f"input[{index}]", find) for index, item in enumerate(given)]


def _item(item: Item, where: str, find: Find) -> Item:
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference"
    if kind == "item_reference":
        return _referenced(item, where, find)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise InvalidRequestError(
            f"items of type {kind!r} do not exist here; there are {', '.join(_READERS)} and "
            "item_reference",
            param=where,
        )
    return reader(item, where)


def _referenced(item: Item, where: str, find: Find) -> Item:
    name = _string(item, "id", where)
    found = find(name)
    if found is None:
        raise InvalidRequestError(
            f"there is no item {name!r}; send the item itself", param=f"{where}.id"
        )
    return found


def _message(item: Item, where: str) -> Item:
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequestError(
            f"the role of a message is one of {', '.join(sorted(_ROLES))}, not {role!r}",
            param=f"{where}.role",
        )
    content = _parts(item.get("content"), f"{where}.content")
    if role == "assistant":
        shown = [_output_part(part) for part in content]
    else:
        shown = [{"type": "input_text", "text": _text(part)} for part in content]
    return {
        "id": _id(item, "msg"),
        "type": "message",
        "role": role,
        "status": "completed",
        "content": shown,
    }


def _function_call(item: Item, where: str) -> Item:
    return {
        "id": _id(item, "fc"),
        "type": "function_call",
        "call_id": _string(item, "call_id", where),
        "name": _string(item, "name", where),
        "arguments": _string(item, "arguments", where),
        "status": "completed",
    }


def _function_call_output(item: Item, where: str) -> Item:
    parts = _parts(item.get("output"), f"{where}.output")
    return {
        "id": _id(item, "fco"),
        "type": "function_call_output",
        "call_id": _string(item, "call_id", where),
        "output": "".join(_text(part) for part in parts),
        "status": "completed",
    }


def _reasoning(item: Item, where: str) -> Item:
    read: Item = {"id": _id(item, "rs"), "type": "reasoning", "status": "completed"}
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        parts = item.get(name) or []
        if not isinstance(parts, list) or not all(_has_text(part) for part in parts):
            raise InvalidRequestError(
                f"{name} is a list of parts with text", param=f"{where}.{name}"
            )
        read[name] = [{"type": kind, "text": part["text"]} for part in parts]
    return read


_READERS: Final[dict[str, Callable[[Item, str], Item]]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_call_output,
    "reasoning": _reasoning,
}


def _parts(content: Any, where: str) -> list[Item]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise InvalidRequestError("a text or a list of parts is needed here", param=where)
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str) or kind not in _TEXT_PARTS:
            raise InvalidRequestError(
                f"parts of type {kind!r} are not supported by this model; send text",
                param=f"{where}[{index}]",
            )
        if not isinstance(_text(part), str):
            raise InvalidRequestError("the text of a part is a string", param=f"{where}[{index}]")
    return content


def _output_part(part: Item) -> Item:
    if part["type"] == "refusal":
        return {"type": "refusal", "refusal": part["refusal"]}
    return {"type": "output_text", "text": part["text"], "annotations": [], "logprobs": []}


def _text(part: Item) -> Any:
    return part.get("refusal" if part["type"] == "refusal" else "text")


def _has_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _string(item: Item, name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(
            f"{name} of this item is missing, or no text", param=f"{where}.{name}"
        )
    return value


def _id(item: Item, prefix: str) -> str:
    given = item.get("id")
    return given if isinstance(given, str) and 0 < len(given) <= 128 else item_id(prefix)


def messages_of(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Messages as chat templates expect them: what the model did in one go is one message.

    Raises:
        InvalidRequestError: there is the output of a call that nobody made.
    """
    messages: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for item in items:
        if item["type"] == "function_call_output":
            messages.append(_result(item, names))
        elif item["type"] == "message" and item["role"] != "assistant":
            role = "system" if item["role"] == "developer" else item["role"]
            messages.append({"role": role, "content": _joined(item["content"])})
        else:
            if item["type"] == "function_call":
                names[item["call_id"]] = item["name"]
            _add_to_turn(messages, item)
    return messages


def _result(item: Item, names: dict[str, str]) -> dict[str, Any]:
    call_id = item["call_id"]
    if call_id not in names:
        raise InvalidRequestError(
            f"no function call has the call_id {call_id!r}; send the call before its output, or "
            "the previous_response_id of the response that made it",
            param="input",
        )
    return {
        "role": "tool",
        "tool_call_id": call_id,
        "name": names[call_id],
        "content": item["output"],
    }


def _add_to_turn(messages: list[dict[str, Any]], item: Item) -> None:
    turn = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
    if item["type"] == "function_call":
        turn = turn or _new_turn(messages)
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        turn.setdefault("tool_calls", []).append(call)
        return
    if turn is None or turn["content"] or "tool_calls" in turn:
        turn = _new_turn(messages)
    if item["type"] == "reasoning":
        text = _joined(item.get("content") or item["summary"])
        if text:
            turn["reasoning_content"] = turn.get("reasoning_content", "") + text
    else:
        turn["content"] = _joined(item["content"])


def _new_turn(messages: list[dict[str, Any]]) -> dict[str, Any]:
    messages.append({"role": "assistant", "content": ""})
    return messages[-1]


def _joined(parts: list[Item]) -> str:
    return "".join(_text(part) for part in parts)
