"""The endpoints."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from inferflux_api.dialects.openai.errors import error_event
from inferflux_api.dialects.openai.rendering import DONE, ChatRenderer, CompletionRenderer
from inferflux_api.dialects.openai.schemas import ChatRequest, CompletionRequest
from inferflux_api.dialects.openai.translate import chat_request, completion_request
from inferflux_api.engines import ServedModel
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.pipeline import Generation, GenerationRequest
from inferflux_api.server import Server
from inferflux_core.engine.protocol import TokenReport
from inferflux_core.errors import InferFluxError

__all__ = ["ROUTES"]

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_chat_decoder = msgspec.json.Decoder(ChatRequest)
_completion_decoder = msgspec.json.Decoder(CompletionRequest)

Renderer = ChatRenderer | CompletionRenderer


@post(
    "/v1/chat/completions",
    status_code=200,
    opt={"scope": "generate", "body": ChatRequest},
    tags=["OpenAI"],
)
async def chat_completions(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer a conversation."""
    server: Server = request.app.state.server
    body = await read_json(request, _chat_decoder, **server.body_limits)
    return await _respond(request, body, chat_request(body), ChatRenderer)


@post(
    "/v1/completions",
    status_code=200,
    opt={"scope": "generate", "body": CompletionRequest},
    tags=["OpenAI"],
)
async def completions(request: Request[Any, Any, Any]) -> Response[Any]:
    """Continue a text."""
    server: Server = request.app.state.server
    body = await read_json(request, _completion_decoder, **server.body_limits)
    return await _respond(request, body, completion_request(body), CompletionRenderer)


@get("/v1/models", opt={"scope": "read"}, tags=["OpenAI"])
async def list_models(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The models that are served."""
    server: Server = request.app.state.server
    return {"object": "list", "data": [_describe(model) for model in server.engines]}


@get("/v1/models/{model_id:path}", opt={"scope": "read"}, tags=["OpenAI"])
async def get_model(request: Request[Any, Any, Any], model_id: FromPath[str]) -> dict[str, Any]:
    """One model."""
    server: Server = request.app.state.server
    return _describe(server.engines.get(model_id.strip("/")))


async def _respond(
    request: Request[Any, Any, Any],
    body: ChatRequest | CompletionRequest,
    wanted: GenerationRequest,
    renderer: type[ChatRenderer] | type[CompletionRenderer],
) -> Response[Any]:
    server: Server = request.app.state.server
    generation = await unless_disconnected(
        request.receive, server.pipeline.open(request.user, wanted)
    )
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return Stream(
            _events(server, generation, renderer(generation), include_usage=include_usage),
            media_type="text/event-stream",
            headers={**_STREAM_HEADERS, **generation.headers},
        )
    logprobs = wanted.params.logprobs is not None
    content = await unless_disconnected(
        request.receive, _whole(generation, renderer(generation), logprobs=logprobs)
    )
    return Response(content, media_type="application/json", headers=generation.headers)


async def _events(
    server: Server, generation: Generation, renderer: Renderer, *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    opened: set[int] = set()
    try:
        async for delta in generation.deltas():
            event = renderer.delta(delta)
            if delta.index not in opened:
                opened.add(delta.index)
                event = renderer.first(delta.index) + event
            yield event
        if include_usage:
            yield renderer.usage_chunk()
    except InferFluxError as error:
        server.count_error(error)
        yield error_event(error)
    finally:
        await generation.close()
    yield DONE


async def _whole(generation: Generation, renderer: Renderer, *, logprobs: bool) -> bytes:
    texts: dict[int, list[str]] = {}
    reports: dict[int, list[TokenReport]] = {}
    reasons: dict[int, str] = {}
    try:
        async for delta in generation.deltas():
            texts.setdefault(delta.index, []).append(delta.text)
            reports.setdefault(delta.index, []).extend(delta.reports)
            if delta.finish_reason is not None:
                reasons[delta.index] = delta.finish_reason
    finally:
        await generation.close()
    return renderer.body(
        [
            renderer.choice(
                index, "".join(texts[index]), reasons[index], reports[index] if logprobs else None
            )
            for index in sorted(texts)
        ]
    )


def _describe(model: ServedModel) -> dict[str, Any]:
    info = model.engine.loaded_info
    description: dict[str, Any] = {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "inferflux",
        "backend": model.backend,
        "state": model.engine.state.value,
    }
    if info is not None:
        description |= {
            "max_model_len": info.max_model_len,
            "max_num_seqs": info.max_num_seqs,
            "device": info.device,
            "details": info.details,
        }
    return description


ROUTES = [chat_completions, completions, list_models, get_model]
