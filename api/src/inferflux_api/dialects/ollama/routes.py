"""Generating and embedding."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response, get, head, post

from inferflux_api.choices import gather
from inferflux_api.dialects.ollama.creation import defaults_of
from inferflux_api.dialects.ollama.durations import nanoseconds
from inferflux_api.dialects.ollama.keep_alive import apply_keep_alive, load_or_unload
from inferflux_api.dialects.ollama.names import resolve
from inferflux_api.dialects.ollama.rendering import (
    ChatRenderer,
    GenerateRenderer,
    RawRenderer,
)
from inferflux_api.dialects.ollama.schemas import (
    ChatBody,
    EmbedBody,
    EmbeddingsBody,
    GenerateBody,
    GenerationFields,
)
from inferflux_api.dialects.ollama.translate import chat_request, generate_request
from inferflux_api.engines import Target
from inferflux_api.generation import GenerationRequest
from inferflux_api.governance.authentication import PUBLIC
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.http.streaming import respond_stream
from inferflux_api.operations import Result
from inferflux_api.pipeline import Generation
from inferflux_api.server import Server
from inferflux_api.vectors import as_computed, normalised
from inferflux_core.engine.protocol import ChatPrompt, Embeddings, TextPrompt, TokenPrompt
from inferflux_core.errors import InferFluxError, InvalidRequestError

__all__ = ["ROUTES"]

COMPATIBLE_VERSION: Final = "0.13.0"
"""Clients ask for features by Ollama's version; this is the one whose API is spoken here."""

_NDJSON: Final = "application/x-ndjson"
_JSON: Final = "application/json; charset=utf-8"

_chat = msgspec.json.Decoder(ChatBody)
_generate = msgspec.json.Decoder(GenerateBody)
_embed = msgspec.json.Decoder(EmbedBody)
_embeddings = msgspec.json.Decoder(EmbeddingsBody)


@post("/api/chat", status_code=200, opt={"scope": "generate", "body": ChatBody}, tags=["Ollama"])
async def chat(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer a conversation; without messages, load the model or unload it."""
    server: Server = request.app.state.server
    body = await read_json(request, _chat, **server.body_limits)
    target = resolve(server.engines.seen_by(request.user), body.model)
    if not body.messages:
        empty = {"message": {"role": "assistant", "content": ""}}
        return await _without_prompt(request, body, target, empty)
    wanted = chat_request(body, target.name, defaults_of(server, target))
    return await _respond(request, body, target, wanted, ChatRenderer)


@post(
    "/api/generate",
    status_code=200,
    opt={"scope": "generate", "body": GenerateBody},
    tags=["Ollama"],
)
async def generate(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer a prompt; without one, load the model or unload it."""
    server: Server = request.app.state.server
    body = await read_json(request, _generate, **server.body_limits)
    target = resolve(server.engines.seen_by(request.user), body.model)
    if not (body.prompt or body.suffix):
        return await _without_prompt(request, body, target, {"response": ""})
    wanted = generate_request(body, target.name, defaults_of(server, target))
    if body.context:
        wanted = await _with_context(request, wanted, body.context)
    bare = body.raw or body.suffix
    return await _respond(request, body, target, wanted, RawRenderer if bare else GenerateRenderer)


@post("/api/embed", status_code=200, opt={"scope": "generate", "body": EmbedBody}, tags=["Ollama"])
async def embed(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Embed texts; every embedding has the length 1. Without a text, load the model."""
    server: Server = request.app.state.server
    body = await read_json(request, _embed, **server.body_limits)
    texts = [body.input] if isinstance(body.input, str) else body.input or []
    target = resolve(server.engines.seen_by(request.user), body.model)
    apply_keep_alive(request.user, target.model, body.keep_alive)
    started = time.monotonic()
    answer: dict[str, Any] = {"model": body.model, "embeddings": []}
    headers: dict[str, str] = {}
    if texts and texts != [""]:
        result = await _embedded(request, target, texts)
        answer["embeddings"] = normalised(result.answer, body.dimensions).tolist()
        answer["prompt_eval_count"] = result.answer.num_tokens
        headers = result.headers
    else:
        await _loaded(request, target)
    answer["total_duration"] = nanoseconds(time.monotonic() - started)
    return Response(msgspec.json.encode(answer), media_type=_JSON, headers=headers)


@post(
    "/api/embeddings",
    status_code=200,
    opt={"scope": "generate", "body": EmbeddingsBody},
    tags=["Ollama"],
)
async def embeddings(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Embed a text, as the model has it. The older way."""
    server: Server = request.app.state.server
    body = await read_json(request, _embeddings, **server.body_limits)
    target = resolve(server.engines.seen_by(request.user), body.model)
    apply_keep_alive(request.user, target.model, body.keep_alive)
    if not body.prompt:
        await _loaded(request, target)
        return Response(b'{"embedding":[]}', media_type=_JSON)
    result = await _embedded(request, target, [body.prompt])
    (vector,) = as_computed(result.answer)
    return Response(
        msgspec.json.encode({"embedding": vector.tolist()}),
        media_type=_JSON,
        headers=result.headers,
    )


@get("/api/version", opt={"scope": PUBLIC}, tags=["Ollama"])
async def api_version() -> dict[str, str]:
    """The version of Ollama whose API is spoken here, and our own."""
    return {"version": COMPATIBLE_VERSION, "inferflux": version("inferflux-api")}


@get("/", opt={"scope": PUBLIC}, media_type=MediaType.TEXT, tags=["Ollama"])
async def root() -> str:
    """What clients of Ollama look for."""
    return "Ollama is running"


@head(["/", "/api/version"], opt={"scope": PUBLIC}, include_in_schema=False)
async def root_head() -> None:
    """Whether somebody is there."""


async def _respond(
    request: Request[Any, Any, Any],
    body: GenerationFields,
    target: Target,
    wanted: GenerationRequest,
    kind: type[ChatRenderer] | type[GenerateRenderer],
) -> Response[Any]:
    server: Server = request.app.state.server
    apply_keep_alive(request.user, target.model, body.keep_alive)
    generation = await unless_disconnected(
        request.receive, server.pipeline.open(request.user, wanted)
    )
    try:
        _check(body, generation)
    except InferFluxError:
        await generation.close()
        raise
    renderer = kind(generation, body.model)
    if body.stream is not False:
        return respond_stream(server, generation, renderer, _NDJSON)
    content = await unless_disconnected(request.receive, _whole(generation, renderer))
    return Response(content, media_type=_JSON, headers=generation.headers)


async def _whole(generation: Generation, renderer: ChatRenderer | GenerateRenderer) -> bytes:
    try:
        (choice,) = await gather(generation)
        return await renderer.body(choice)
    finally:
        await generation.close()


def _check(body: GenerationFields, generation: Generation) -> None:
    """What only the loaded model can tell.

    Raises:
        InvalidRequestError: it does not reason, or its context is shorter than the one asked for.
    """
    info = generation.model.engine.info
    if body.think and info.reasoning is None:
        raise InvalidRequestError(f'"{body.model}" does not support thinking')
    wanted = body.options.num_ctx if body.options else None
    if wanted is not None and wanted > info.max_model_len:
        raise InvalidRequestError(
            f"a context of {wanted} tokens was asked for, and this model is served with "
            f"{info.max_model_len}; raise `runtime.max_model_len`",
            param="options.num_ctx",
        )


async def _without_prompt(
    request: Request[Any, Any, Any], body: GenerationFields, target: Target, empty: dict[str, Any]
) -> Response[Any]:
    server: Server = request.app.state.server
    work = load_or_unload(server, request.user, target.model, body.keep_alive, empty)
    answer = await unless_disconnected(request.receive, work)
    return Response(answer | {"model": body.model}, media_type=_JSON)


async def _with_context(
    request: Request[Any, Any, Any], wanted: GenerationRequest, context: list[int]
) -> GenerationRequest:
    """The request with an earlier answer's tokens before its own."""
    server: Server = request.app.state.server
    (prompt,) = wanted.prompts
    if not isinstance(prompt, ChatPrompt):
        raise InvalidRequestError("context and suffix do not go together", param="context")
    turn = await server.operations.tokenize(request.user, wanted.model, prompt)
    return replace(wanted, prompts=[TokenPrompt(token_ids=context + turn.answer.token_ids)])


async def _embedded(
    request: Request[Any, Any, Any], target: Target, texts: list[str]
) -> Result[Embeddings]:
    server: Server = request.app.state.server
    inputs = [TextPrompt(text=text) for text in texts]
    return await unless_disconnected(
        request.receive, server.operations.embed(request.user, target.name, inputs)
    )


async def _loaded(request: Request[Any, Any, Any], target: Target) -> None:
    server: Server = request.app.state.server
    async with server.engines.lease(target.model):
        pass


ROUTES = [chat, generate, embed, embeddings, api_version, root, root_head]
