"""How long models stay in memory, as Ollama's clients ask for it."""

from __future__ import annotations

import time
from typing import Any

from inferflux_api.dialects.ollama.durations import keep_alive_seconds
from inferflux_api.models.served import ServedModel
from inferflux_api.server import Server
from inferflux_api.timestamps import timestamp
from inferflux_core.auth import Principal
from inferflux_core.errors import PermissionDeniedError

__all__ = ["apply_keep_alive", "load_or_unload"]

_SCOPE = "models:write"


def apply_keep_alive(
    principal: Principal, model: ServedModel, keep_alive: float | str | None
) -> None:
    """Set how long a model stays after its next use; the configured time, if the caller names none.

    Only who may unload models has a say: others would send away what their neighbours use.

    Raises:
        InvalidRequestError: it is no duration.
    """
    ttl = model.config.idle_ttl if keep_alive is None else keep_alive_seconds(keep_alive)
    if principal.allows(_SCOPE):
        model.idle_ttl = ttl


async def load_or_unload(
    server: Server,
    principal: Principal,
    model: ServedModel,
    keep_alive: float | str | None,
    empty: dict[str, Any],
) -> dict[str, Any]:
    """What a request without a prompt is for.

    Args:
        server: that serves the model.
        principal: who asks.
        model: to load, or with a `keep_alive` of 0 to unload.
        keep_alive: of the request.
        empty: the field of the answer that holds text otherwise.

    Returns:
        The answer.

    Raises:
        PermissionDeniedError: it is to be unloaded, and the caller may not.
        EngineUnavailableError: it cannot be loaded.
    """
    unloads = keep_alive is not None and keep_alive_seconds(keep_alive) == 0
    if unloads:
        if not principal.allows(_SCOPE):
            raise PermissionDeniedError(f"unloading a model needs the scope '{_SCOPE}'")
        with server.audit.action(principal, "unload by keep_alive", model.name):
            await server.engines.unload(model, drain=True)
    else:
        apply_keep_alive(principal, model, keep_alive)
        async with server.engines.lease(model):
            pass
    return {
        "model": model.name,
        "created_at": timestamp(time.time()),
        **empty,
        "done": True,
        "done_reason": "unload" if unloads else "load",
    }
