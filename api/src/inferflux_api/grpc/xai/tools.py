"""Tools of xAI's chats."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from inferflux_api.conversation import NO_TOOLS, Tool, ToolUse
from inferflux_api.grpc.protos import xai_pb2 as pb
from inferflux_api.http.body import decode_json
from inferflux_core.errors import InvalidRequestError

__all__ = ["schema_of", "tool_use"]

_MODES: Final[dict[int, Literal["auto", "none", "required"]]] = {
    pb.TOOL_MODE_AUTO: "auto",
    pb.TOOL_MODE_NONE: "none",
    pb.TOOL_MODE_REQUIRED: "required",
}
_schema_decoder: Final = msgspec.json.Decoder(dict[str, Any])


def tool_use(request: pb.GetCompletionsRequest, max_depth: int) -> ToolUse:
    """The tools of a request.

    Args:
        request: the chat.
        max_depth: that schemas may be nested.

    Raises:
        InvalidRequestError: a tool is malformed, or of a kind that does not exist here.
    """
    tools = tuple(_tool(tool, f"tools[{i}]", max_depth) for i, tool in enumerate(request.tools))
    choice = request.tool_choice
    kind = choice.WhichOneof("tool_choice")
    only = choice.function_name if kind == "function_name" else None
    mode = "required" if only is not None else _MODES.get(choice.mode)
    if kind is None:
        mode = "auto"
    if mode is None:
        raise InvalidRequestError(
            "tool_choice has no mode that exists here; use auto, none or required",
            param="tool_choice",
        )
    if not tools and mode != "required":
        return NO_TOOLS
    parallel = request.parallel_tool_calls or not request.HasField("parallel_tool_calls")
    return ToolUse(tools, mode, only, parallel, "tools" if mode == "auto" else "tool_choice")


def schema_of(text: str, param: str, max_depth: int) -> dict[str, Any]:
    """A JSON Schema that came as text.

    Raises:
        InvalidRequestError: it is no JSON object, or nested too deeply.
    """
    try:
        return decode_json(text.encode(), _schema_decoder, max_depth)
    except InvalidRequestError as error:
        raise InvalidRequestError(
            f"{param} must be the text of a JSON Schema, an object: {error.message}", param=param
        ) from error


def _tool(tool: pb.Tool, param: str, max_depth: int) -> Tool:
    kind = tool.WhichOneof("tool")
    if kind != "function":
        raise InvalidRequestError(
            f"tools of kind {kind!r} do not exist here; only functions do", param=param
        )
    function = tool.function
    description = function.description or None
    if not function.parameters:
        return Tool(function.name, description)
    parameters = schema_of(function.parameters, f"{param}.function.parameters", max_depth)
    return Tool(function.name, description, parameters)
