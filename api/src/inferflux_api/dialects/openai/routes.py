"""Chat and completions."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, post

from inferflux_api.choices import collect
from inferflux_api.dialects.openai.rendering import ChatRenderer, CompletionRenderer
from inferflux_api.dialects.openai.schemas import ChatRequest, CompletionRequest
from inferflux_api.dialects.openai.translate import chat_request, completion_request
from inferflux_api.generation import GenerationRequest
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.http.streaming import respond_stream
from inferflux_api.server import Server

__all__ = ["ROUTES"]

_chat_decoder = msgspec.json.Decoder(ChatRequest)
_completion_decoder = msgspec.json.Decoder(CompletionRequest)


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
        return respond_stream(server, generation, renderer(generation, include_usage=include_usage))
    choices = await unless_disconnected(request.receive, collect(generation))
    content = renderer(generation).body(choices)
    return Response(content, media_type="application/json", headers=generation.headers)


ROUTES = [chat_completions, completions]
