"""From Anthropic's requests to ours."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from inferflux_api.conversation import NO_TOOLS, Conversation, Tool, ToolUse
from inferflux_api.dialects.anthropic.blocks import template_messages
from inferflux_api.dialects.anthropic.schemas import (
    CountTokensRequest,
    InputTool,
    InputToolChoice,
    MessagesRequest,
)
from inferflux_api.generation import GenerationRequest
from inferflux_core.engine.sampling_params import Constraint, SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["conversation_of", "generation_request"]

_CHOICES: Final[dict[str, Literal["auto", "none", "required"]]] = {
    "auto": "auto",
    "any": "required",
    "tool": "required",
    "none": "none",
}


def generation_request(body: MessagesRequest) -> GenerationRequest:
    """Translate a request for a message.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    if not body.messages:
        raise InvalidRequestError("at least one message is required", param="messages")
    given: dict[str, Any] = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
    }
    params = SamplingParams(
        **{name: value for name, value in given.items() if value is not None},
        max_tokens=body.max_tokens,
        stop=body.stop_sequences or [],
        constraint=_constraint(body),
    )
    return GenerationRequest.of_chat(body.model, conversation_of(body), params)


def conversation_of(body: CountTokensRequest) -> Conversation:
    """The conversation of a request, whose last message may be the beginning of the answer.

    Raises:
        InvalidRequestError: it holds what no chat template takes.
    """
    messages = template_messages(body.system, body.messages)
    last = messages[-1] if messages else {}
    continues = last.get("role") == "assistant" and not last.get("tool_calls")
    if continues and not str(last["content"]).strip():
        messages, continues = messages[:-1], False
    thinking = None if body.thinking is None else body.thinking.type != "disabled"
    return Conversation(
        messages=messages,
        tools=_tool_use(body.tools or [], body.tool_choice),
        thinking=thinking,
        effort=body.output_config.effort if body.output_config else None,
        continue_last=continues,
    )


def _tool_use(tools: list[InputTool], choice: InputToolChoice | None) -> ToolUse:
    known = tuple(_tool(tool, index) for index, tool in enumerate(tools))
    if choice is None:
        return ToolUse(known) if known else NO_TOOLS
    if choice.type == "tool" and choice.name is None:
        raise InvalidRequestError("a tool choice of type tool needs a name", param="tool_choice")
    mode = _CHOICES[choice.type]
    if not known and mode != "required":
        return NO_TOOLS
    return ToolUse(
        known,
        mode,
        only=choice.name if choice.type == "tool" else None,
        parallel=not choice.disable_parallel_tool_use,
        param="tools" if mode == "auto" else "tool_choice",
    )


def _tool(tool: InputTool, index: int) -> Tool:
    if tool.type not in (None, "custom") or tool.input_schema is None:
        raise InvalidRequestError(
            f"tool '{tool.name}' is not one that the client runs: only tools with an input_schema are",
            param=f"tools.{index}",
        )
    return Tool(tool.name, tool.description, tool.input_schema)


def _constraint(body: MessagesRequest) -> Constraint | None:
    wanted = body.output_format or (body.output_config.format if body.output_config else None)
    if wanted is None:
        return None
    schema = wanted.get("schema")
    if wanted.get("type") != "json_schema" or not isinstance(schema, dict):
        raise InvalidRequestError(
            "the output format must be of type json_schema, with a schema", param="output_config"
        )
    return Constraint(
        kind="json_schema", value=msgspec.json.encode(schema).decode(), param="output_config"
    )
