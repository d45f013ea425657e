"""Pulling, creating, copying and deleting models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, head, post
from litestar.params import FromPath
from litestar.response import Stream

from inferflux_api.dialects.ollama.creation import create as created
from inferflux_api.dialects.ollama.errors import error_line
from inferflux_api.dialects.ollama.names import resolve
from inferflux_api.dialects.ollama.schemas import CopyBody, CreateBody, ModelBody, PullBody
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.library.transfer import Progress
from inferflux_api.server import Server
from inferflux_core.errors import (
    InferFluxError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
)

__all__ = ["ROUTES"]

_SCOPE: Final = "models:write"

_pull = msgspec.json.Decoder(PullBody)
_create = msgspec.json.Decoder(CreateBody)
_copy = msgspec.json.Decoder(CopyBody)
_delete = msgspec.json.Decoder(ModelBody)


@post("/api/pull", status_code=200, opt={"scope": _SCOPE, "body": PullBody}, tags=["Ollama"])
async def pull(request: Request[Any, Any, Any]) -> Response[Any]:
    """Fetch a model from a registry and serve it."""
    server: Server = request.app.state.server
    body = await read_json(request, _pull, **server.body_limits)
    steps = server.library.pull(body.required())
    return await _respond(request, steps, streams=body.stream is not False)


@post("/api/create", status_code=200, opt={"scope": _SCOPE, "body": CreateBody}, tags=["Ollama"])
async def create(request: Request[Any, Any, Any]) -> Response[Any]:
    """Make a model from another one, or from a file that was uploaded."""
    server: Server = request.app.state.server
    body = await read_json(request, _create, **server.body_limits)
    return await _respond(
        request, created(server, request.user, body), streams=body.stream is not False
    )


@post("/api/copy", status_code=200, opt={"scope": _SCOPE, "body": CopyBody}, tags=["Ollama"])
async def copy(request: Request[Any, Any, Any]) -> None:
    """Serve a model under another name too."""
    server: Server = request.app.state.server
    body = await read_json(request, _copy, **server.body_limits)
    source = resolve(server.engines.seen_by(request.user), body.source)
    if source.is_adapter:
        raise InvalidRequestError("an adapter is not copied; it belongs to its model")
    await server.library.copy(source.model, body.destination)


@delete("/api/delete", status_code=200, opt={"scope": _SCOPE, "body": ModelBody}, tags=["Ollama"])
async def remove(request: Request[Any, Any, Any]) -> None:
    """Forget a model, once those who use it are done."""
    server: Server = request.app.state.server
    body = await read_json(request, _delete, **server.body_limits)
    target = resolve(server.engines.seen_by(request.user), body.required())
    if target.is_adapter:
        raise InvalidRequestError("this is an adapter; unload it with /v1/unload_lora_adapter")
    await server.library.delete(target.model)


@post("/api/push", status_code=200, opt={"scope": _SCOPE}, tags=["Ollama"])
async def push() -> None:
    """Refused: nothing that is kept here is published."""
    raise InvalidRequestError("models are not pushed from this server; publish their files instead")


@head("/api/blobs/{digest:str}", opt={"scope": _SCOPE}, include_in_schema=False)
async def has_blob(request: Request[Any, Any, Any], digest: FromPath[str]) -> None:
    """Whether a file is there."""
    server: Server = request.app.state.server
    if not server.library.store.has(digest):
        raise NotFoundError(f"there is no blob {digest[:80]}")


@post(
    "/api/blobs/{digest:str}",
    status_code=201,
    opt={"scope": _SCOPE},
    tags=["Ollama"],
    request_max_body_size=None,
)
async def upload_blob(request: Request[Any, Any, Any], digest: FromPath[str]) -> Response[bytes]:
    """Keep a file, whose bytes are the body. 200 if it was there."""
    server: Server = request.app.state.server
    store, limit = server.library.store, server.library.max_blob_bytes
    if store.has(digest):
        return Response(b"", status_code=200)
    async with store.writing(digest) as writer:
        # What an earlier attempt has left is sent again.
        writer.restart()
        async for chunk in request.stream():
            if writer.written + len(chunk) > limit:
                writer.restart()
                raise PayloadTooLargeError(
                    f"files of over {limit} bytes are not accepted (`library.max_blob_bytes`)"
                )
            await writer.write(chunk)
    return Response(b"", status_code=201)


async def _respond(
    request: Request[Any, Any, Any], steps: AsyncGenerator[Progress, None], *, streams: bool
) -> Response[Any]:
    """What happens, a line for each step, or only how it ended."""
    server: Server = request.app.state.server
    if not streams:
        last = await unless_disconnected(request.receive, _last(steps))
        return Response(_line(last), media_type="application/json; charset=utf-8")
    # The first step says little; what goes wrong goes wrong in the second, and has a status of its own.
    first = [await anext(steps)]
    second = await unless_disconnected(request.receive, anext(steps, None))
    first += [] if second is None else [second]
    return Stream(_lines(server, first, steps), media_type="application/x-ndjson")


async def _lines(
    server: Server, first: list[Progress], rest: AsyncGenerator[Progress, None]
) -> AsyncIterator[bytes]:
    for step in first:
        yield _line(step)
    try:
        async for step in rest:
            yield _line(step)
    except InferFluxError as error:
        server.count_error(error)
        yield error_line(error)
    finally:
        await rest.aclose()


async def _last(steps: AsyncGenerator[Progress, None]) -> Progress:
    done = [step async for step in steps]
    return done[-1]


def _line(step: Progress) -> bytes:
    return msgspec.json.encode(step) + b"\n"


ROUTES = [pull, create, copy, remove, push, has_blob, upload_blob]
