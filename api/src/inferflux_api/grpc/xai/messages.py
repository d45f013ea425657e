"""Messages of xAI's chats, for chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from inferflux_api.grpc.protos import xai_pb2 as pb
from inferflux_core.errors import InvalidRequestError

__all__ = ["template_messages"]

_MAX_MESSAGES: Final = 4096
_ROLES: Final[dict[int, str]] = {
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "system",
    pb.ROLE_FUNCTION: "function",
    pb.ROLE_TOOL: "tool",
}


def template_messages(messages: Sequence[pb.Message]) -> list[dict[str, Any]]:
    """Messages as chat templates expect them.

    Raises:
        InvalidRequestError: there are none, or one has what this server does not take.
    """
    if not 1 <= len(messages) <= _MAX_MESSAGES:
        raise InvalidRequestError(
            f"messages must be 1 to {_MAX_MESSAGES}, not {len(messages)}", param="messages"
        )
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: pb.Message, param: str) -> dict[str, Any]:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidRequestError(f"{param} has no role that exists here", param=f"{param}.role")
    if message.encrypted_content:
        raise InvalidRequestError(
            "encrypted content does not exist here; send messages as they are",
            param=f"{param}.encrypted_content",
        )
    result: dict[str, Any] = {"role": role, "content": _text(message.content, param)}
    for name in ("name", "tool_call_id", "reasoning_content"):
        if value := getattr(message, name):
            result[name] = value
    if message.tool_calls:
        result["tool_calls"] = [_call(call, param) for call in message.tool_calls]
    return result


def _text(parts: Sequence[pb.Content], param: str) -> str:
    for part in parts:
        kind = part.WhichOneof("content")
        if kind not in ("text", None):
            raise InvalidRequestError(
                f"content of kind {kind!r} is not supported by this model", param=f"{param}.content"
            )
    return "".join(part.text for part in parts)


def _call(call: pb.ToolCall, param: str) -> dict[str, Any]:
    if not call.function.name:
        raise InvalidRequestError(
            "a tool call needs a function with a name", param=f"{param}.tool_calls"
        )
    function = {"name": call.function.name, "arguments": call.function.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}
