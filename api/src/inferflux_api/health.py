"""Probes and metrics."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from inferflux_api.governance.authentication import PUBLIC
from inferflux_api.observability.metrics import CONTENT_TYPE
from inferflux_api.openapi import describe
from inferflux_api.server import Server

__all__ = ["ROUTES"]


@get(["/livez", "/healthz"], opt={"scope": PUBLIC}, tags=["Health"])
async def live() -> dict[str, str]:
    """Whether the process answers at all."""
    return {"status": "ok"}


@get("/readyz", opt={"scope": PUBLIC}, tags=["Health"])
async def ready(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Whether every model that is to be in memory can be used; 503 while one cannot."""
    server: Server = request.app.state.server
    is_ready = server.ready
    models = [{"id": m.name, "backend": m.backend, "state": m.state} for m in server.engines]
    status = "ready" if is_ready else "draining" if server.draining else "starting"
    return Response({"status": status, "models": models}, status_code=200 if is_ready else 503)


@get("/metrics", opt={"scope": "read"}, tags=["Health"])
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Prometheus exposition."""
    server: Server = request.app.state.server
    return Response(server.metrics.render(), media_type=CONTENT_TYPE)


@get("/openapi.json", opt={"scope": "read"}, include_in_schema=False)
async def openapi(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """The description of this API."""
    return Response(describe(request.app), media_type="application/json")


ROUTES = [live, ready, metrics, openapi]
