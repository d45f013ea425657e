"""The newer REST API: conversations that the server remembers."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, post
from msgspec import Meta

from inferflux_api.choices import collect
from inferflux_api.conversation import Conversation
from inferflux_api.dialects.lmstudio.chat_events import ChatEvents, chat_result, cut_off
from inferflux_api.dialects.lmstudio.descriptions import check_context_length, is_ready
from inferflux_api.dialects.lmstudio.memory import ConversationMemory
from inferflux_api.generation import GenerationRequest
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.http.streaming import respond_stream
from inferflux_api.pipeline import Generation
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["ROUTES"]

_TEXT_ITEMS: Final = ("message", "text")
_THINKING: Final = {"off": False, "on": True, "low": True, "medium": True, "high": True}
Probability = Annotated[float, Meta(ge=0, le=1)]


class ChatBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /api/v1/chat`."""

    model: str
    input: str | list[dict[str, Any]]
    system_prompt: str | None = None
    integrations: list[Any] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Probability | None = None
    repeat_penalty: float | None = None
    max_output_tokens: int | None = None
    reasoning: str | None = None
    context_length: int | None = None
    store: bool | None = None
    previous_response_id: str | None = None


_chat = msgspec.json.Decoder(ChatBody)


@post(
    "/api/v1/chat", status_code=200, opt={"scope": "generate", "body": ChatBody}, tags=["LM Studio"]
)
async def chat(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer, and remember the conversation under the id of the answer."""
    server: Server = request.app.state.server
    body = await read_json(request, _chat, **server.body_limits)
    memory: ConversationMemory = request.app.state.lmstudio_memory
    messages = _messages(request.user, memory, body)
    was_loaded = is_ready(server.engines.seen_by(request.user).resolve(body.model).model)
    generation = await unless_disconnected(
        request.receive, _opened(server, request.user, body, messages)
    )

    def keep(text: str) -> str | None:
        if body.store is False:
            return None
        return memory.keep(request.user, [*messages, {"role": "assistant", "content": text}])

    if body.stream:
        events = ChatEvents(generation, was_loaded=was_loaded, keep=keep)
        return respond_stream(server, generation, events)
    (choice,) = await unless_disconnected(request.receive, collect(generation))
    if choice.finish_reason == "content_filter":
        raise cut_off()
    result = chat_result(generation, choice.text, choice.reasoning, was_loaded=was_loaded)
    if (response_id := keep(choice.text)) is not None:
        result["response_id"] = response_id
    return Response(
        msgspec.json.encode(result), media_type="application/json", headers=generation.headers
    )


async def _opened(
    server: Server, principal: Principal, body: ChatBody, messages: list[dict[str, Any]]
) -> Generation:
    generation = await server.pipeline.open(principal, _wanted(body, messages))
    try:
        # Only now: before it was loaded, nobody knew how much the model holds.
        check_context_length(generation.model, body.context_length)
    except InvalidRequestError:
        await generation.close()
        raise
    return generation


def _messages(
    principal: Principal, memory: ConversationMemory, body: ChatBody
) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if body.previous_response_id is not None:
        messages = memory.recall(principal, body.previous_response_id)
    if body.system_prompt:
        messages = [message for message in messages if message["role"] != "system"]
        messages.insert(0, {"role": "system", "content": body.system_prompt})
    return [*messages, {"role": "user", "content": _text(body.input)}]


def _text(given: str | list[dict[str, Any]]) -> str:
    if isinstance(given, str):
        return given
    parts = []
    for item in given:
        content = item.get("content")
        if item.get("type") not in _TEXT_ITEMS or not isinstance(content, str):
            raise InvalidRequestError(
                f"input of type {item.get('type')!r} is not supported by this model", param="input"
            )
        parts.append(content)
    return "\n".join(parts)


def _wanted(body: ChatBody, messages: list[dict[str, Any]]) -> GenerationRequest:
    if body.integrations:
        raise InvalidRequestError(
            "integrations run tools on the server, which this one does not", param="integrations"
        )
    if body.reasoning is not None and body.reasoning not in _THINKING:
        raise InvalidRequestError(
            f"reasoning must be one of {', '.join(_THINKING)}", param="reasoning"
        )
    conversation = Conversation(
        messages=messages,
        thinking=None if body.reasoning is None else _THINKING[body.reasoning],
        effort=body.reasoning if body.reasoning in ("low", "medium", "high") else None,
    )
    given: dict[str, Any] = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "min_p": body.min_p,
        "repetition_penalty": body.repeat_penalty,
        "max_tokens": None if body.max_output_tokens == -1 else body.max_output_tokens,
    }
    params = SamplingParams(**{name: value for name, value in given.items() if value is not None})
    return GenerationRequest.of_chat(body.model, conversation, params)


ROUTES = [chat]
