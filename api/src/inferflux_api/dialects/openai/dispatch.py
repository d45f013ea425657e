"""Answering a request that came in a batch as if it had come by itself."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

from inferflux_api.batches.runner import Answer
from inferflux_api.choices import collect
from inferflux_api.dialects.openai.embeddings import EmbeddingRequest, embedding_body
from inferflux_api.dialects.openai.errors import error_body
from inferflux_api.dialects.openai.rendering import ChatRenderer, CompletionRenderer
from inferflux_api.dialects.openai.schemas import ChatRequest, CompletionRequest
from inferflux_api.dialects.openai.translate import chat_request, completion_request
from inferflux_api.generation import GenerationRequest
from inferflux_api.http.body import decode_json
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.errors import InferFluxError, InvalidRequestError

__all__ = ["BATCH_ENDPOINTS", "answerer"]

BATCH_ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")

_chat = msgspec.json.Decoder(ChatRequest)
_completion = msgspec.json.Decoder(CompletionRequest)
_embedding = msgspec.json.Decoder(EmbeddingRequest)


def answerer(server: Server) -> Answer:
    """What answers the lines of batches: after everything else that waits."""

    async def answer(principal: Principal, endpoint: str, body: bytes) -> tuple[int, str, bytes]:
        try:
            return (200, *await _answer(server, principal, endpoint, body))
        except InferFluxError as error:
            server.count_error(error)
            return error.status, secrets.token_hex(12), error_body(error)

    return answer


async def _answer(
    server: Server, principal: Principal, endpoint: str, body: bytes
) -> tuple[str, bytes]:
    depth = server.body_limits["max_depth"]
    if endpoint == "/v1/embeddings":
        return await embedding_body(server, principal, decode_json(body, _embedding, depth))
    if endpoint == "/v1/completions":
        completion = decode_json(body, _completion, depth)
        _refuse_stream(stream=completion.stream)
        return await _generated(
            server, principal, completion_request(completion), CompletionRenderer
        )
    chat = decode_json(body, _chat, depth)
    _refuse_stream(stream=chat.stream)
    return await _generated(server, principal, chat_request(chat), ChatRenderer)


async def _generated(
    server: Server,
    principal: Principal,
    wanted: GenerationRequest,
    renderer: type[ChatRenderer] | type[CompletionRenderer],
) -> tuple[str, bytes]:
    generation = await server.pipeline.open(principal, wanted.after_everything_else())
    choices = await collect(generation)
    return generation.id, renderer(generation).body(choices)


def _refuse_stream(*, stream: bool | None) -> None:
    if stream:
        raise InvalidRequestError("the answers of a batch cannot be streamed", param="stream")
