"""The newer REST API: models in and out of memory."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from litestar import Request, get, post

from inferflux_api.dialects.lmstudio.descriptions import (
    check_context_length,
    is_embedding,
    load_config,
    v1_model,
)
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.server import Server

__all__ = ["ROUTES"]


class LoadBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /api/v1/models/load`."""

    model: str
    context_length: int | None = None
    echo_load_config: bool | None = None


class UnloadBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /api/v1/models/unload`."""

    instance_id: str


_load = msgspec.json.Decoder(LoadBody)
_unload = msgspec.json.Decoder(UnloadBody)


@get("/api/v1/models", opt={"scope": "read"}, tags=["LM Studio"])
async def list_models(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """All models, and which of them are in memory."""
    server: Server = request.app.state.server
    models = server.engines.seen_by(request.user)
    return {"models": await asyncio.to_thread(lambda: [*map(v1_model, models)])}


@post(
    "/api/v1/models/load",
    status_code=200,
    opt={"scope": "models:write", "body": LoadBody},
    tags=["LM Studio"],
)
async def load(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Load a model, as it is configured."""
    server: Server = request.app.state.server
    body = await read_json(request, _load, **server.body_limits)
    model = server.engines.get(body.model)
    check_context_length(model, body.context_length)
    started = time.monotonic()
    await unless_disconnected(request.receive, server.engines.load(model))
    check_context_length(model, body.context_length)
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
    opt={"scope": "models:write", "body": UnloadBody},
    tags=["LM Studio"],
)
async def unload(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Unload a model, once those who use it are done."""
    server: Server = request.app.state.server
    body = await read_json(request, _unload, **server.body_limits)
    model = server.engines.get(body.instance_id)
    await unless_disconnected(request.receive, server.engines.unload(model, drain=True))
    return {"instance_id": model.name}


ROUTES = [list_models, load, unload]
