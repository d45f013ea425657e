"""From xAI's chats to our requests."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from inferflux_api.conversation import Conversation
from inferflux_api.generation import GenerationRequest
from inferflux_api.grpc.protos import xai_pb2 as pb
from inferflux_api.grpc.xai.messages import template_messages
from inferflux_api.grpc.xai.tools import schema_of, tool_use
from inferflux_core.engine.sampling_params import Constraint, SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["chat_request"]

_MAX_CHOICES: Final = 16
_EFFORTS: Final[dict[int, str]] = {
    pb.EFFORT_LOW: "low",
    pb.EFFORT_MEDIUM: "medium",
    pb.EFFORT_HIGH: "high",
    pb.EFFORT_XHIGH: "xhigh",
    pb.EFFORT_NONE: "none",
}
_SAMPLING: Final = (
    "max_tokens",
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
)


def chat_request(request: pb.GetCompletionsRequest, max_depth: int) -> GenerationRequest:
    """Translate a chat.

    Args:
        request: the chat.
        max_depth: that JSON schemas may be nested.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    _refuse_what_is_not_here(request)
    return GenerationRequest.of_chat(
        request.model or None,
        _conversation(request, max_depth),
        _params(request, max_depth),
        n=_choices(request),
    )


def _refuse_what_is_not_here(request: pb.GetCompletionsRequest) -> None:
    stored = "this server stores no chats; send the whole conversation"
    refused: tuple[tuple[str, bool, str], ...] = (
        ("previous_response_id", bool(request.previous_response_id), stored),
        ("store_messages", request.store_messages, stored),
        (
            "search_parameters",
            request.search_parameters.mode not in (pb.INVALID_SEARCH_MODE, pb.OFF_SEARCH_MODE),
            "this server does not search; leave out search_parameters",
        ),
        (
            "agent_count",
            request.agent_count != pb.AGENT_COUNT_UNSPECIFIED,
            "this server has no agents; leave out agent_count",
        ),
        (
            "guidelines",
            bool(request.guidelines),
            "guidelines are not followed here; the operator sets guardrails",
        ),
    )
    for param, is_asked_for, problem in refused:
        if is_asked_for:
            raise InvalidRequestError(problem, param=param)


def _choices(request: pb.GetCompletionsRequest) -> int:
    n = request.n if request.HasField("n") else 1
    if not 1 <= n <= _MAX_CHOICES:
        raise InvalidRequestError(f"n must be between 1 and {_MAX_CHOICES}, not {n}", param="n")
    return n


def _conversation(request: pb.GetCompletionsRequest, max_depth: int) -> Conversation:
    effort = None
    if request.HasField("reasoning_effort"):
        effort = _EFFORTS.get(request.reasoning_effort)
        if effort is None:
            raise InvalidRequestError(
                "reasoning_effort has no value that exists here", param="reasoning_effort"
            )
    return Conversation(
        messages=template_messages(request.messages),
        tools=tool_use(request, max_depth),
        thinking=None if effort is None else effort != "none",
        effort=None if effort == "none" else effort,
    )


def _params(request: pb.GetCompletionsRequest, max_depth: int) -> SamplingParams:
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs", param="top_logprobs")
    given: dict[str, Any] = {
        name: getattr(request, name) for name in _SAMPLING if request.HasField(name)
    }
    return SamplingParams(
        **given,
        stop=list(request.stop),
        logprobs=request.top_logprobs if request.logprobs else None,
        constraint=_constraint(request, max_depth),
    )


def _constraint(request: pb.GetCompletionsRequest, max_depth: int) -> Constraint | None:
    if not request.HasField("response_format"):
        return None
    wanted, param = request.response_format, "response_format"
    if wanted.format_type == pb.FORMAT_TYPE_TEXT:
        return None
    if wanted.format_type == pb.FORMAT_TYPE_JSON_OBJECT:
        schema: dict[str, Any] = {"type": "object"}
    elif wanted.format_type == pb.FORMAT_TYPE_JSON_SCHEMA:
        schema = schema_of(wanted.schema, f"{param}.schema", max_depth)
    else:
        raise InvalidRequestError(
            "response_format has no type that exists here; use text, JSON object or JSON schema",
            param=param,
        )
    return Constraint(kind="json_schema", value=msgspec.json.encode(schema).decode(), param=param)
