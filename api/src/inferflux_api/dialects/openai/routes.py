"""Chat and completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.response import Stream

from inferflux_api.dialects.openai.choices import collect
from inferflux_api.dialects.openai.errors import error_event
from inferflux_api.dialects.openai.rendering import DONE, ChatRenderer, CompletionRenderer
from inferflux_api.dialects.openai.schemas import ChatRequest, CompletionRequest
from inferflux_api.dialects.openai.translate import chat_request, completion_request
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.pipeline import Generation, GenerationRequest
from inferflux_api.server import Server
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
    choices = await unless_disconnected(request.receive, collect(generation))
    content = renderer(generation).body(choices)
    return Response(content, media_type="application/json", headers=generation.headers)


async def _events(
    server: Server, generation: Generation, renderer: Renderer, *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    opened: set[int] = set()
    try:
        async for delta in generation.deltas():
            event = b""
            if delta.index not in opened:
                opened.add(delta.index)
                event = renderer.first(delta)
            yield event + renderer.delta(delta)
        if include_usage:
            yield renderer.usage_chunk()
    except InferFluxError as error:
        server.count_error(error)
        yield error_event(error)
    finally:
        await generation.close()
    yield DONE


ROUTES = [chat_completions, completions]
