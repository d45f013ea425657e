"""What there is, and what runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from litestar import Request, get, head, post

from inferflux_api.dialects.ollama.descriptions import details, digest, shown, tag
from inferflux_api.dialects.ollama.names import resolve, with_tag
from inferflux_api.dialects.ollama.schemas import ShowBody
from inferflux_api.engines import Target, VisibleModels
from inferflux_api.http.body import read_json
from inferflux_api.library.store import Manifest
from inferflux_api.models.served import ServedModel
from inferflux_api.server import Server
from inferflux_api.timestamps import timestamp

__all__ = ["ROUTES"]

# Ollama has no word for ever; clients compare times.
_FOR_EVER: Final = 100 * 365 * 86400.0

_show = msgspec.json.Decoder(ShowBody)


@get("/api/tags", opt={"scope": "read"}, tags=["Ollama"])
async def tags(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """All models and adapters, what changed last first."""
    server: Server = request.app.state.server
    found = [
        (target, server.library.find(target.model))
        for target in _targets(server.engines.seen_by(request.user))
    ]
    entries = await asyncio.to_thread(lambda: [tag(*each) for each in found])
    return {"models": sorted(entries, key=lambda entry: entry["modified_at"], reverse=True)}


@head("/api/tags", opt={"scope": "read"}, include_in_schema=False)
async def tags_head() -> None:
    """Whether somebody is there."""


@post("/api/show", status_code=200, opt={"scope": "read", "body": ShowBody}, tags=["Ollama"])
async def show(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """What is known about a model."""
    server: Server = request.app.state.server
    body = await read_json(request, _show, **server.body_limits)
    name = body.required()
    target = resolve(server.engines.seen_by(request.user), name)
    manifest = server.library.find(target.model)
    answer = await asyncio.to_thread(shown, target, manifest, verbose=body.verbose is True)
    if request.headers.get("user-agent", "").startswith("GitHubCopilotChat/"):
        # It takes the model's name from here, and asks for that one afterwards.
        answer["model_info"]["general.basename"] = name
    return answer


@get("/api/ps", opt={"scope": "read"}, tags=["Ollama"])
async def running(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The models in memory, those that stay longest first."""
    server: Server = request.app.state.server
    never = time.time() + _FOR_EVER
    loaded = [model for model in server.engines.seen_by(request.user) if model.is_loaded]
    loaded.sort(key=lambda model: model.expires_at or never, reverse=True)
    found = [(model, server.library.find(model)) for model in loaded]
    return {"models": await asyncio.to_thread(lambda: [_running(*each, never) for each in found])}


def _targets(models: VisibleModels) -> Iterator[Target]:
    return (models.resolve(name) for model in models for name in models.names(model))


def _running(model: ServedModel, manifest: Manifest | None, never: float) -> dict[str, Any]:
    info = model.engine.loaded_info
    return {
        "name": with_tag(model.name),
        "model": with_tag(model.name),
        "size": model.engine.memory_bytes or 0,
        "size_vram": 0,
        "digest": digest(model, manifest),
        "details": details(Target(model.name, model, []), manifest),
        "expires_at": timestamp(model.expires_at or never),
        "context_length": info.max_model_len if info else 0,
    }


ROUTES = [tags, tags_head, show, running]
