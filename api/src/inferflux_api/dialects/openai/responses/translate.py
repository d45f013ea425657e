"""From requests for responses to ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from inferflux_api.conversation import Conversation
from inferflux_api.dialects.openai.responses.items import Item, messages_of
from inferflux_api.dialects.openai.responses.schemas import (
    Reasoning,
    ResponsesRequest,
    TextOptions,
)
from inferflux_api.dialects.openai.tools import tool_use
from inferflux_api.generation import GenerationRequest
from inferflux_core.engine.sampling_params import Constraint, SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["Wanted", "conversation", "echo", "generation_request"]

_LOGPROBS: Final = "message.output_text.logprobs"
_REFUSED: Final = {
    "conversation": "conversations are not kept here; continue with previous_response_id",
    "prompt": "there are no stored prompts here; send input and instructions",
    "context_management": "contexts are not compacted here; truncation: auto drops old items",
    "moderation": "answers are moderated by this server's guardrails alone",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that has been understood.

    Attributes:
        body: as it was sent.
        items: of this request alone.
        conversation: of all there is.
    """

    body: ResponsesRequest
    items: list[Item]
    conversation: Conversation


def conversation(body: ResponsesRequest, items: list[Item]) -> Conversation:
    """What is to be answered.

    Args:
        body: the request.
        items: of earlier responses, then those of the request.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    for name, why in _REFUSED.items():
        if getattr(body, name):
            raise InvalidRequestError(why, param=name)
    messages = messages_of(items)
    if not messages:
        raise InvalidRequestError("input is needed: a text, or a list of items", param="input")
    if body.instructions:
        # Many templates take one system message only.
        rest = messages.pop(0)["content"] if messages[0]["role"] == "system" else None
        text = body.instructions if rest is None else f"{body.instructions}\n\n{rest}"
        messages.insert(0, {"role": "system", "content": text})
    effort = (body.reasoning or Reasoning()).effort
    return Conversation(
        messages=messages,
        tools=tool_use(body.tools, body.tool_choice, body.parallel_tool_calls),
        thinking=None if effort is None else effort != "none",
        effort=None if effort == "none" else effort,
    )


def generation_request(wanted: Wanted) -> GenerationRequest:
    """For the pipeline.

    Raises:
        InvalidRequestError: its parts do not go together.
    """
    body = wanted.body
    logprobs = None
    if body.top_logprobs or _LOGPROBS in (body.include or []):
        logprobs = body.top_logprobs or 0
    params = SamplingParams(
        max_tokens=body.max_output_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        logprobs=logprobs,
        constraint=_constraint(body.text or TextOptions()),
    )
    return GenerationRequest.of_chat(body.model, wanted.conversation, params)


def _constraint(text: TextOptions) -> Constraint | None:
    wanted = text.format or {}
    kind = wanted.get("type", "text")
    if kind == "text":
        return None
    schema = {"type": "object"} if kind == "json_object" else wanted.get("schema")
    if kind not in ("json_object", "json_schema"):
        raise InvalidRequestError(
            f"text.format {kind!r} does not exist here; use text, json_object or json_schema",
            param="text.format",
        )
    if not isinstance(schema, dict):
        raise InvalidRequestError(
            "text.format of type json_schema needs a schema, an object", param="text.format.schema"
        )
    value = msgspec.json.encode(schema).decode()
    return Constraint(kind="json_schema", value=value, param="text.format")


def echo(body: ResponsesRequest) -> dict[str, Any]:
    """The fields of a response that repeat its request, with the defaults that hold."""
    text = body.text or TextOptions()
    reasoning = body.reasoning or Reasoning()
    return {
        "background": bool(body.background),
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {
            "format": _format(text.format or {"type": "text"}),
            "verbosity": text.verbosity or "medium",
        },
        "tool_choice": _choice(body.tool_choice),
        "tools": list(_tools(body.tools or [])),
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": body.truncation or "disabled",
        "user": body.user,
    }


def _format(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("type") != "json_schema":
        return {"type": given.get("type", "text")}
    return {
        "type": "json_schema",
        "name": given.get("name") or "answer",
        "description": given.get("description"),
        "schema": given["schema"],
        "strict": bool(given.get("strict")),
    }


def _choice(given: str | dict[str, Any] | None) -> str | dict[str, Any]:
    if given is None or isinstance(given, str):
        return {"any": "required"}.get(given or "", given or "auto")
    if given.get("type") == "allowed_tools":
        allowed = given.get("allowed_tools", given)
        tools = [tool for tool in allowed.get("tools") or [] if isinstance(tool, dict)]
        return {"type": "allowed_tools", "mode": allowed.get("mode", "auto"), "tools": tools}
    return {"type": "function", "name": given.get("function", given)["name"]}


def _tools(tools: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for tool in tools:
        function = tool.get("function", tool)
        yield {
            "type": "function",
            "name": function["name"],
            "description": function.get("description"),
            "parameters": function.get("parameters") or {"type": "object", "properties": {}},
            "strict": bool(function.get("strict")),
        }
