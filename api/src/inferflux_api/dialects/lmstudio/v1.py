"""The newer REST API: conversations that the server remembers, and models in and out of memory."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Stream
from msgspec import Meta

from inferflux_api.choices import gather
from inferflux_api.conversation import Conversation
from inferflux_api.dialects.lmstudio.chat_events import ChatEvents, chat_result
from inferflux_api.dialects.lmstudio.descriptions import is_embedding, load_config, v1_model
from inferflux_api.dialects.lmstudio.memory import ConversationMemory
from inferflux_api.generation import GenerationRequest
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.pipeline import Generation
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import InferFluxError, InvalidRequestError

__all__ = ["ROUTES"]

_STREAM_HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_TEXT_ITEMS: Final = frozenset({"message", "text"})
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


class LoadBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /api/v1/models/load`."""

    model: str
    context_length: int | None = None
    echo_load_config: bool | None = None


class UnloadBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /api/v1/models/unload`."""

    instance_id: str


_chat = msgspec.json.Decoder(ChatBody)
_load = msgspec.json.Decoder(LoadBody)
_unload = msgspec.json.Decoder(UnloadBody)


@post(
    "/api/v1/chat", status_code=200, opt={"scope": "generate", "body": ChatBody}, tags=["LM Studio"]
)
async def chat(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer, and remember the conversation under the id of the answer."""
    server: Server = request.app.state.server
    body = await read_json(request, _chat, **server.body_limits)
    memory: ConversationMemory = request.app.state.lmstudio_memory
    messages = _messages(request.user, memory, body)
    generation = await unless_disconnected(
        request.receive, server.pipeline.open(request.user, _wanted(body, messages))
    )
    if body.stream:
        events = _events(server, memory, request.user, body, messages, generation)
        headers = {**_STREAM_HEADERS, **generation.headers}
        return Stream(events, media_type="text/event-stream", headers=headers)
    result = await unless_disconnected(
        request.receive, _whole(memory, request.user, body, messages, generation)
    )
    return Response(
        msgspec.json.encode(result), media_type="application/json", headers=generation.headers
    )


async def _whole(
    memory: ConversationMemory,
    principal: Principal,
    body: ChatBody,
    messages: list[dict[str, Any]],
    generation: Generation,
) -> dict[str, Any]:
    try:
        (choice,) = await gather(generation)
    finally:
        await generation.close()
    result = chat_result(generation, choice.text, choice.reasoning)
    if body.store is not False:
        answer = {"role": "assistant", "content": choice.text}
        result["response_id"] = memory.keep(principal, [*messages, answer])
    return result


async def _events(
    server: Server,
    memory: ConversationMemory,
    principal: Principal,
    body: ChatBody,
    messages: list[dict[str, Any]],
    generation: Generation,
) -> AsyncGenerator[bytes, None]:
    events = ChatEvents(generation)
    try:
        yield events.start()
        async for delta in generation.deltas():
            yield events.delta(delta)
    except InferFluxError as error:
        server.count_error(error)
        yield events.error(error)
    finally:
        await generation.close()
    response_id = None
    if body.store is not False and not events.failed:
        answer = {"role": "assistant", "content": events.text}
        response_id = memory.keep(principal, [*messages, answer])
    yield events.end(response_id)


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


@get("/api/v1/models", opt={"scope": "read"}, tags=["LM Studio"])
async def list_models(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """All models, and which of them are in memory."""
    server: Server = request.app.state.server
    return {"models": [v1_model(model) for model in server.engines]}


@post(
    "/api/v1/models/load",
    status_code=200,
    opt={"scope": "admin", "body": LoadBody},
    tags=["LM Studio"],
)
async def load(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Load a model, as it is configured."""
    server: Server = request.app.state.server
    body = await read_json(request, _load, **server.body_limits)
    model = server.engines.get(body.model)
    started = time.monotonic()
    await unless_disconnected(request.receive, server.engines.load(model))
    served = model.engine.info.max_model_len
    if body.context_length is not None and body.context_length > served:
        raise InvalidRequestError(
            f"a context of {body.context_length} tokens was asked for, and this model is served with "
            f"{served}; raise `runtime.max_model_len`",
            param="context_length",
        )
    answer: dict[str, Any] = {
        "type": "embedding" if is_embedding(model) else "llm",
        "instance_id": model.name,
        "load_time_seconds": time.monotonic() - started,
        "status": "loaded",
    }
    return answer | ({"load_config": load_config(model)} if body.echo_load_config else {})


@post(
    "/api/v1/models/unload",
    status_code=200,
    opt={"scope": "admin", "body": UnloadBody},
    tags=["LM Studio"],
)
async def unload(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Unload a model, once those who use it are done."""
    server: Server = request.app.state.server
    body = await read_json(request, _unload, **server.body_limits)
    model = server.engines.get(body.instance_id)
    await unless_disconnected(request.receive, server.engines.unload(model, drain=True))
    return {"instance_id": model.name}


ROUTES = [chat, list_models, load, unload]
