"""Conversations as every dialect hands them on: messages, tools, and whether to think."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from inferflux_core.engine.protocol import ChatPrompt
from inferflux_core.engine.sampling_params import Constraint, SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["NO_TOOLS", "Conversation", "Tool", "ToolUse"]

_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MAX_TOOLS: Final = 128
_RESERVED_OPTIONS: Final = frozenset({"messages", "tools", "bos_token", "eos_token"})


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask its caller to run.

    Attributes:
        name: of the function.
        description: for the model.
        parameters: JSON Schema of its arguments, an object.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request, and what the model may do with them.

    Attributes:
        tools: all there are.
        choice: `auto`: calls or text; `none`: text; `required`: calls.
        only: the one tool that has to be called, if one was named.
        parallel: whether one answer may hold several calls.
        param: the request field that demands calls, for errors to name.
    """

    tools: tuple[Tool, ...]
    choice: Literal["auto", "none", "required"] = "auto"
    only: str | None = None
    parallel: bool = True
    param: str = "tools"

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        if len(names) > _MAX_TOOLS:
            raise InvalidRequestError(f"there are more than {_MAX_TOOLS} tools", param=self.param)
        for name in names:
            if not _NAME.fullmatch(name):
                raise InvalidRequestError(
                    f"{name!r} cannot be the name of a tool: use letters, digits, `_`, `-`, `.` and "
                    "`:`, at most 128 of them",
                    param=self.param,
                )
        if len(set(names)) < len(names):
            raise InvalidRequestError("two tools have the same name", param=self.param)
        if self.only is not None and self.only not in names:
            raise InvalidRequestError(f"there is no tool {self.only!r} to call", param=self.param)
        if self.choice == "required" and not names:
            raise InvalidRequestError("a call is required and there are no tools", param=self.param)

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that the model is told of."""
        return () if self.choice == "none" else self.tools

    def constraint(self, otherwise: Constraint | None) -> Constraint | None:
        """What makes the answer call where it must.

        Args:
            otherwise: what the answer must look like if it calls nothing.

        Raises:
            InvalidRequestError: the two cannot be had together.
        """
        if not self.offered or (self.choice == "auto" and otherwise is None):
            return otherwise
        if otherwise is not None and otherwise.kind != "json_schema":
            raise InvalidRequestError(
                f"tools go together with JSON schemas only, not with a {otherwise.kind}",
                param=otherwise.param,
            )
        callable_tools = [t for t in self.tools if self.only in (None, t.name)]
        wanted: dict[str, Any] = {
            "tools": [{"name": t.name, "parameters": t.parameters} for t in callable_tools],
            "parallel": self.parallel and self.only is None,
        }
        if self.choice == "auto" and otherwise is not None:
            wanted["otherwise"] = _schema(otherwise)
        return Constraint(kind="tool_calls", value=json.dumps(wanted), param=self.param)


NO_TOOLS: Final = ToolUse(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a chat template renders.

    Attributes:
        messages: as Hugging Face chat templates expect them: `role`, `content` as text, and where they
            apply `tool_calls` (OpenAI's shape), `tool_call_id`, `name`, `reasoning_content`.
        tools: that the model may call.
        thinking: whether it shall reason first; None leaves it to the template.
        effort: how much, in the words of the template.
        options: further variables for the template.
        continue_last: the last message is the beginning of the answer.
    """

    messages: list[dict[str, Any]]
    tools: ToolUse = NO_TOOLS
    thinking: bool | None = None
    effort: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    continue_last: bool = False

    def prompt(self) -> ChatPrompt:
        """For the engine.

        Raises:
            InvalidRequestError: the options would set what the template gets from elsewhere.
        """
        if reserved := _RESERVED_OPTIONS & self.options.keys():
            raise InvalidRequestError(
                f"chat_template_kwargs may not set {sorted(reserved)}", param="chat_template_kwargs"
            )
        options: dict[str, Any] = {}
        if self.thinking is not None:
            options["enable_thinking"] = self.thinking
        if self.effort is not None:
            options["reasoning_effort"] = self.effort
        tools = [_for_template(tool) for tool in self.tools.offered]
        return ChatPrompt(
            messages=self.messages,
            tools=tools or None,
            options=options | self.options,
            continue_last=self.continue_last,
        )

    def constrain(self, params: SamplingParams) -> SamplingParams:
        """The parameters with what tools demand of the answer.

        Raises:
            InvalidRequestError: that cannot be had together with what else is demanded.
        """
        constraint = self.tools.constraint(params.constraint)
        if constraint is params.constraint:
            return params
        return msgspec.structs.replace(params, constraint=constraint)


def _schema(constraint: Constraint) -> dict[str, Any]:
    """The schema of a constraint, which may be text that a client wrote."""
    try:
        schema = json.loads(constraint.value)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(
            f"the JSON Schema is not valid JSON: {error}", param=constraint.param
        ) from error
    if not isinstance(schema, dict):
        raise InvalidRequestError("a JSON Schema is an object", param=constraint.param)
    return schema


def _for_template(tool: Tool) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.parameters,
    }
    return {"type": "function", "function": function}
