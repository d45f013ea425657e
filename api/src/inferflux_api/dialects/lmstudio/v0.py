"""The older REST API: OpenAI's answers with figures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath

from inferflux_api.choices import collect
from inferflux_api.dialects.lmstudio.descriptions import (
    file_format,
    quantization,
    runtime_info,
    v0_model,
)
from inferflux_api.dialects.lmstudio.stats import v0_stats
from inferflux_api.dialects.openai.embeddings import EmbeddingRequest, embedding_body
from inferflux_api.dialects.openai.rendering import ChatRenderer, CompletionRenderer
from inferflux_api.dialects.openai.schemas import ChatRequest, CompletionRequest
from inferflux_api.dialects.openai.translate import chat_request, completion_request
from inferflux_api.generation import GenerationRequest
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.http.streaming import respond_stream
from inferflux_api.pipeline import Generation
from inferflux_api.server import Server

__all__ = ["ROUTES"]

_Body = TypeVar("_Body", ChatRequest, CompletionRequest)


class ChatBody(ChatRequest, frozen=True, kw_only=True):
    """OpenAI's, with LM Studio's name for the repetition penalty."""

    repeat_penalty: float | None = None


class CompletionBody(CompletionRequest, frozen=True, kw_only=True):
    """OpenAI's, with LM Studio's name for the repetition penalty."""

    repeat_penalty: float | None = None


_chat = msgspec.json.Decoder(ChatBody)
_completion = msgspec.json.Decoder(CompletionBody)
_embedding = msgspec.json.Decoder(EmbeddingRequest)


def _figures(
    generation: Generation, finish_reason: str, stop_sequence: str | None
) -> dict[str, Any]:
    model, info = generation.model, generation.model.engine.info
    return {
        "stats": v0_stats(generation, finish_reason, stop_sequence),
        "model_info": {
            "arch": info.details.get("architecture", "unknown"),
            "quant": info.details.get("quantization") or quantization(model) or "unknown",
            "format": file_format(model),
            "context_length": info.max_model_len,
        },
        "runtime": runtime_info(),
    }


class _Chat(ChatRenderer):
    """A chat with figures."""

    def extras(self, finish_reason: str, stop_sequence: str | None) -> dict[str, Any]:
        """How it went."""
        return _figures(self._generation, finish_reason, stop_sequence)


class _Completion(CompletionRenderer):
    """A completion with figures."""

    def extras(self, finish_reason: str, stop_sequence: str | None) -> dict[str, Any]:
        """How it went."""
        return _figures(self._generation, finish_reason, stop_sequence)


@get("/api/v0/models", opt={"scope": "read"}, tags=["LM Studio"])
async def list_models(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """All models."""
    server: Server = request.app.state.server
    models = server.engines.seen_by(request.user)
    data = await asyncio.to_thread(lambda: [*map(v0_model, models)])
    return {"object": "list", "data": data}


@get("/api/v0/models/{model_id:path}", opt={"scope": "read"}, tags=["LM Studio"])
async def get_model(request: Request[Any, Any, Any], model_id: FromPath[str]) -> dict[str, Any]:
    """One model."""
    server: Server = request.app.state.server
    target = server.engines.seen_by(request.user).resolve(model_id.strip("/"))
    return await asyncio.to_thread(v0_model, target.model)


@post(
    "/api/v0/chat/completions",
    status_code=200,
    opt={"scope": "generate", "body": ChatBody},
    tags=["LM Studio"],
)
async def chat(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer a conversation."""
    server: Server = request.app.state.server
    body = await read_json(request, _chat, **server.body_limits)
    wanted = chat_request(_penalised(body, body.repeat_penalty))
    return await _respond(request, wanted, _Chat, stream=bool(body.stream))


@post(
    "/api/v0/completions",
    status_code=200,
    opt={"scope": "generate", "body": CompletionBody},
    tags=["LM Studio"],
)
async def completions(request: Request[Any, Any, Any]) -> Response[Any]:
    """Continue a text."""
    server: Server = request.app.state.server
    body = await read_json(request, _completion, **server.body_limits)
    wanted = completion_request(_penalised(body, body.repeat_penalty))
    return await _respond(request, wanted, _Completion, stream=bool(body.stream))


@post(
    "/api/v0/embeddings",
    status_code=200,
    opt={"scope": "generate", "body": EmbeddingRequest},
    tags=["LM Studio"],
)
async def embeddings(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Embed texts; every embedding has the length 1."""
    server: Server = request.app.state.server
    body = await read_json(request, _embedding, **server.body_limits)
    work = embedding_body(server, request.user, body)
    _, content = await unless_disconnected(request.receive, work)
    return Response(content, media_type="application/json")


def _penalised(body: _Body, penalty: float | None) -> _Body:
    """A body with the repetition penalty under OpenAI's servers' name for it."""
    if penalty is None:
        return body
    return msgspec.structs.replace(body, repetition_penalty=penalty)


async def _respond(
    request: Request[Any, Any, Any],
    wanted: GenerationRequest,
    renderer: Callable[..., _Chat | _Completion],
    *,
    stream: bool,
) -> Response[Any]:
    server: Server = request.app.state.server
    generation = await unless_disconnected(
        request.receive, server.pipeline.open(request.user, wanted)
    )
    if stream:
        # Figures come with usage, in a chunk of their own.
        return respond_stream(server, generation, renderer(generation, include_usage=True))
    choices = await unless_disconnected(request.receive, collect(generation))
    content = renderer(generation).body(choices)
    return Response(content, media_type="application/json", headers=generation.headers)


ROUTES = [list_models, get_model, chat, completions, embeddings]
