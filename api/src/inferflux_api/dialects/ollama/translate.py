"""From Ollama's requests to ours."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from inferflux_api.conversation import Conversation
from inferflux_api.dialects.ollama.schemas import (
    ChatBody,
    GenerateBody,
    GenerationFields,
    Message,
    Options,
)
from inferflux_api.dialects.openai.tools import tool_use
from inferflux_api.generation import GenerationRequest
from inferflux_core.engine.protocol import InfillPrompt, Prompt, TextPrompt
from inferflux_core.engine.sampling_params import Constraint, SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["Defaults", "chat_request", "check_message", "generate_request"]

_DEFAULTS: Final[dict[str, float]] = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}
_WHOLE: Final = frozenset({"num_predict", "num_ctx", "seed", "top_k"})
_NAMES: Final = {"repeat_penalty": "repetition_penalty"}
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})
_OBJECT: Final = '{"type": "object"}'


class Defaults(msgspec.Struct, frozen=True):
    """What a model was created with.

    Attributes:
        options: of requests that bring none.
        system: message of conversations that bring none.
        messages: turns before every conversation.
    """

    options: Options = Options()
    system: str = ""
    messages: list[Message] = []


def chat_request(body: ChatBody, model: str, defaults: Defaults) -> GenerationRequest:
    """Translate a chat.

    Args:
        body: of the request.
        model: as it is served here.
        defaults: that the model was created with.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    messages = [check_message(message, index) for index, message in enumerate(body.messages)]
    before = [check_message(message, index) for index, message in enumerate(defaults.messages)]
    if defaults.system and not any(m["role"] == "system" for m in (*before[:1], *messages[:1])):
        before.insert(0, {"role": "system", "content": defaults.system})
    last = messages[-1] if messages else {}
    conversation = _conversation(
        body,
        before + messages,
        tools=tool_use(body.tools, None, None),
        # As with Ollama, an answer that has been begun is gone on with.
        continue_last=last.get("role") == "assistant" and "tool_calls" not in last,
    )
    return GenerationRequest.of_chat(model, conversation, _params(body, defaults.options))


def generate_request(body: GenerateBody, model: str, defaults: Defaults) -> GenerationRequest:
    """Translate a generation without context.

    Args:
        body: of the request.
        model: as it is served here.
        defaults: that the model was created with.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    _refuse_images(body.images)
    if body.template:
        raise InvalidRequestError("templates of requests are not rendered here", param="template")
    params = _params(body, defaults.options)
    prompt: Prompt
    if body.suffix:
        prompt = InfillPrompt(prefix=body.prompt or "", suffix=body.suffix)
    elif body.raw:
        if body.system or body.context:
            raise InvalidRequestError("raw mode does not support template, system, or context")
        prompt = TextPrompt(text=body.prompt or "")
    else:
        messages = [{"role": "user", "content": body.prompt or ""}]
        if text := body.system if body.system is not None else defaults.system:
            messages.insert(0, {"role": "system", "content": text})
        return GenerationRequest.of_chat(model, _conversation(body, messages), params)
    return GenerationRequest(model=model, prompts=[prompt], params=params)


def _conversation(
    body: GenerationFields, messages: list[dict[str, Any]], **rest: Any
) -> Conversation:
    thinking = body.think is not False if body.think is not None else None
    effort = body.think if isinstance(body.think, str) else None
    return Conversation(messages=messages, thinking=thinking, effort=effort, **rest)


def _params(body: GenerationFields, defaults: Options) -> SamplingParams:
    given: dict[str, Any] = dict(_DEFAULTS)
    for options in (defaults, body.options or Options()):
        for name, value in msgspec.structs.asdict(options).items():
            if value is not None:
                given[name] = _whole(name, value) if name in _WHOLE else value
    given.pop("num_ctx", None)
    limit, stop = given.pop("num_predict", -1), given.pop("stop", [])
    if given.get("seed", 0) < 0:
        del given["seed"]
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs: true", param="top_logprobs")
    return SamplingParams(
        **{_NAMES.get(name, name): value for name, value in given.items()},
        # -1 is without a limit and -2 fills the context: the same, where nothing is shifted out.
        max_tokens=None if limit < 0 else limit,
        stop=[stop] if isinstance(stop, str) else stop,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        constraint=_constraint(body.format),
    )


def _whole(name: str, value: float) -> int:
    """A number that has to be whole; some clients write it with a point."""
    if value != value or value in (float("inf"), float("-inf")) or int(value) != value:
        raise InvalidRequestError(
            f"option {name!r} must be a whole number", param=f"options.{name}"
        )
    return int(value)


def _constraint(wanted: str | dict[str, Any] | None) -> Constraint | None:
    if wanted is None or wanted == "":
        return None
    if isinstance(wanted, dict):
        return Constraint(kind="json_schema", value=json.dumps(wanted), param="format")
    if wanted != "json":
        raise InvalidRequestError(
            f'invalid format {wanted!r}; expected "json" or a JSON schema', param="format"
        )
    return Constraint(kind="json_schema", value=_OBJECT, param="format")


def check_message(message: Message, index: int) -> dict[str, Any]:
    """A turn as templates expect it.

    Raises:
        InvalidRequestError: it is of a kind that does not exist, or that this server does not read.
    """
    _refuse_images(message.images)
    if message.role not in _ROLES:
        raise InvalidRequestError(
            f"role {message.role!r} does not exist; use one of {', '.join(sorted(_ROLES))}",
            param=f"messages[{index}].role",
        )
    result: dict[str, Any] = {"role": message.role, "content": message.content or ""}
    if message.thinking:
        result["reasoning_content"] = message.thinking
    if message.tool_calls:
        result["tool_calls"] = [_call(call, index) for call in message.tool_calls]
    if message.tool_name:
        result["name"] = message.tool_name
    if message.tool_call_id:
        result["tool_call_id"] = message.tool_call_id
    return result


def _call(call: dict[str, Any], index: int) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequestError(
            "a tool call needs a function with a name", param=f"messages[{index}].tool_calls"
        )
    kept = {"name": function["name"], "arguments": function.get("arguments") or {}}
    return {"type": "function", "function": kept} | ({"id": call["id"]} if call.get("id") else {})


def _refuse_images(images: list[Any] | None) -> None:
    if images:
        raise InvalidRequestError("images are not supported by this model", param="images")
