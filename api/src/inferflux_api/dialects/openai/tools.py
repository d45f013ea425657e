"""Tools as OpenAI's chats and responses name them."""

from __future__ import annotations

from typing import Any, Final, Literal, NoReturn

from inferflux_api.conversation import NO_TOOLS, Tool, ToolUse
from inferflux_core.errors import InvalidRequestError

__all__ = ["tool_use"]

_CHOICES: Final[dict[str, Literal["auto", "none", "required"]]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
    "any": "required",
}


def tool_use(
    tools: list[dict[str, Any]] | None,
    choice: str | dict[str, Any] | None,
    parallel: bool | None,
) -> ToolUse:
    """The tools of a request.

    Args:
        tools: `{"type": "function", "function": {...}}`, or the fields of the function beside the type.
        choice: a mode, or the tool to call: `{"type": "function", "function": {"name": ...}}`, or the
            name beside the type, or `{"type": "allowed_tools", "mode": ..., "tools": [...]}`.
        parallel: whether one answer may hold several calls; the default is that it may.

    Raises:
        InvalidRequestError: a tool is malformed, or of a kind that does not exist here.
    """
    known = tuple(_tool(tool, index) for index, tool in enumerate(tools or []))
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        # Responses have the fields beside the type, chats below it.
        allowed = choice.get("allowed_tools", choice)
        if not isinstance(allowed, dict):
            _refuse_choice(choice)
        listed, mode = allowed.get("tools") or [], allowed.get("mode", "auto")
        if not isinstance(listed, list) or not isinstance(mode, str):
            _refuse_choice(choice)
        names = [_name_in(tool) for tool in listed if isinstance(tool, dict)]
        known = tuple(tool for tool in known if tool.name in names)
        choice = mode
    wanted, only = _mode(choice)
    if not known and wanted != "required":
        return NO_TOOLS
    param = "tools" if wanted == "auto" else "tool_choice"
    return ToolUse(known, wanted, only, parallel is not False, param)


def _tool(tool: dict[str, Any], index: int) -> Tool:
    kind = tool.get("type", "function")
    if kind != "function":
        raise InvalidRequestError(
            f"tools of type {kind!r} do not exist here; only functions do", param=f"tools[{index}]"
        )
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str):
        raise InvalidRequestError("a function needs a name", param=f"tools[{index}]")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise InvalidRequestError(
            "the parameters of a function are a JSON Schema, an object",
            param=f"tools[{index}].parameters",
        )
    description = function.get("description")
    return Tool(name, description if isinstance(description, str) else None, parameters)


def _mode(
    choice: str | dict[str, Any] | None,
) -> tuple[Literal["auto", "none", "required"], str | None]:
    if choice is None:
        return "auto", None
    if isinstance(choice, str):
        if choice not in _CHOICES:
            _refuse_choice(choice)
        return _CHOICES[choice], None
    name = _name_in(choice)
    if not isinstance(name, str):
        _refuse_choice(choice)
    return "required", name


def _name_in(tool: dict[str, Any]) -> Any:
    function = tool.get("function", tool)
    return function.get("name") if isinstance(function, dict) else None


def _refuse_choice(choice: object) -> NoReturn:
    raise InvalidRequestError(
        f"tool_choice {choice!r} does not exist; use auto, none, required, or name a function",
        param="tool_choice",
    )
