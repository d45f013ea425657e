"""The models: which there are, how they are, and moving them in and out of memory."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath

from inferflux_api.dialects.anthropic.models import (
    anthropic_model,
    anthropic_page,
    wants_anthropic,
)
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.models.description import describe, describe_adapter
from inferflux_api.models.served import ServedModel
from inferflux_api.server import Server
from inferflux_core.auth import Principal

__all__ = ["ROUTES", "ModelName", "UnloadModel"]

logger = logging.getLogger("inferflux.server")


class ModelName(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/models/load` and `/v1/models/tune`."""

    model: str


class UnloadModel(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/models/unload`.

    Attributes:
        model: its name.
        drain: let requests finish for `server.drain_timeout` seconds; new ones wait meanwhile.
        force: end requests at once.
    """

    model: str
    drain: bool = False
    force: bool = False


_name_decoder = msgspec.json.Decoder(ModelName)
_unload_decoder = msgspec.json.Decoder(UnloadModel)


@get("/v1/models", opt={"scope": "read"}, tags=["OpenAI"])
async def list_models(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The models that are served, and their adapters."""
    server: Server = request.app.state.server
    models = server.engines.seen_by(request.user)
    if wants_anthropic(request):
        names = ((name, model) for model in models for name in models.names(model))
        return anthropic_page([anthropic_model(name, model) for name, model in names])
    entries: list[dict[str, Any]] = []
    for model in models:
        names_seen = set(models.names(model))
        if model.name in names_seen:
            entries.append(_describe(request, model))
        entries.extend(describe_adapter(a, model) for a in model.adapters if a.name in names_seen)
    return {"object": "list", "data": entries}


@get("/v1/models/{model_id:path}", opt={"scope": "read"}, tags=["OpenAI"])
async def get_model(request: Request[Any, Any, Any], model_id: FromPath[str]) -> dict[str, Any]:
    """One model, or one adapter."""
    server: Server = request.app.state.server
    target = server.engines.seen_by(request.user).resolve(model_id.strip("/"))
    if wants_anthropic(request):
        return anthropic_model(target.name, target.model)
    adapter = target.model.adapters.get(target.name) if target.is_adapter else None
    if adapter is not None:
        return describe_adapter(adapter, target.model)
    return _describe(request, target.model)


@post(
    "/v1/models/load",
    status_code=200,
    opt={"scope": "models:write", "body": ModelName},
    tags=["Models"],
)
async def load_model(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Load a model; answers when it is loaded, with what it is."""
    server: Server = request.app.state.server
    body = await read_json(request, _name_decoder, **server.body_limits)
    return await _change(request, "load", server.engines.get(body.model), server.engines.load)


@post(
    "/v1/models/tune",
    status_code=200,
    opt={"scope": "models:write", "body": ModelName},
    tags=["Models"],
)
async def tune_model(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Load a model anew, measuring again what suits this machine; answers with what was found."""
    server: Server = request.app.state.server
    body = await read_json(request, _name_decoder, **server.body_limits)
    return await _change(request, "tune", server.engines.get(body.model), server.engines.tune)


@post(
    "/v1/models/unload",
    status_code=200,
    opt={"scope": "models:write", "body": UnloadModel},
    tags=["Models"],
)
async def unload_model(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Unload a model; the next request for it loads it again."""
    server: Server = request.app.state.server
    body = await read_json(request, _unload_decoder, **server.body_limits)

    async def unload(model: ServedModel) -> None:
        await server.engines.unload(model, drain=body.drain, force=body.force)

    return await _change(request, "unload", server.engines.get(body.model), unload)


async def _change(
    request: Request[Any, Any, Any],
    what: str,
    model: ServedModel,
    action: Callable[[ServedModel], Awaitable[None]],
) -> dict[str, Any]:
    async def act() -> None:
        await action(model)

    principal: Principal = request.user
    logger.info("'%s' asks to %s model '%s'", principal.subject, what, model.name)
    # What was begun goes on although the client leaves.
    await unless_disconnected(request.receive, act())
    return _describe(request, model)


def _describe(request: Request[Any, Any, Any], model: ServedModel) -> dict[str, Any]:
    principal: Principal = request.user
    return describe(model, in_full=principal.allows("admin"))


ROUTES = [list_models, get_model, load_model, unload_model, tune_model]
