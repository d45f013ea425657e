"""Messages, and counting their tokens."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, post

from inferflux_api.choices import collect
from inferflux_api.dialects.anthropic.errors import new_request_id
from inferflux_api.dialects.anthropic.limits import limit_headers
from inferflux_api.dialects.anthropic.rendering import MessageRenderer, message_body
from inferflux_api.dialects.anthropic.schemas import CountTokensRequest, MessagesRequest
from inferflux_api.dialects.anthropic.translate import conversation_of, generation_request
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.http.streaming import respond_stream
from inferflux_api.server import Server

__all__ = ["ROUTES"]

_messages = msgspec.json.Decoder(MessagesRequest)
_count = msgspec.json.Decoder(CountTokensRequest)


@post(
    "/v1/messages",
    status_code=200,
    opt={"scope": "generate", "body": MessagesRequest},
    tags=["Anthropic"],
)
async def messages(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer a conversation."""
    server: Server = request.app.state.server
    body = await read_json(request, _messages, **server.body_limits)
    generation = await unless_disconnected(
        request.receive, server.pipeline.open(request.user, generation_request(body))
    )
    generation.headers["request-id"] = new_request_id()
    generation.headers.update(limit_headers(generation.headers))
    if body.stream:
        return respond_stream(server, generation, MessageRenderer(generation))
    (choice,) = await unless_disconnected(request.receive, collect(generation))
    return Response(
        message_body(generation, choice),
        media_type="application/json",
        headers=generation.headers,
    )


@post(
    "/v1/messages/count_tokens",
    status_code=200,
    opt={"scope": "generate", "body": CountTokensRequest},
    tags=["Anthropic"],
)
async def count_tokens(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Say how many tokens a conversation has for a model, tools included."""
    server: Server = request.app.state.server
    body = await read_json(request, _count, **server.body_limits)
    result = await unless_disconnected(
        request.receive,
        server.operations.tokenize(request.user, body.model, conversation_of(body).prompt()),
    )
    return Response(
        msgspec.json.encode({"input_tokens": len(result.answer.token_ids)}),
        media_type="application/json",
        headers={
            **result.headers,
            **limit_headers(result.headers),
            "request-id": new_request_id(),
        },
    )


ROUTES = [messages, count_tokens]
