"""The Litestar application over a server."""

from __future__ import annotations

import logging
from typing import Any

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.routes import ASGIRoute, BaseRoute, HTTPRoute, WebSocketRoute

from inferflux_api import health
from inferflux_api.admin import routes as administration
from inferflux_api.batches.runner import BatchRunner
from inferflux_api.dialects.openai.dispatch import answerer
from inferflux_api.dialects.registry import DIALECTS, dialect_of
from inferflux_api.governance.audit.web import AuditedActions, client_of, route_of
from inferflux_api.governance.authentication import authorise, scope_of
from inferflux_api.http.disconnect import ClientDisconnectedError
from inferflux_api.server import Server
from inferflux_core.errors import InferFluxError, NotFoundError

__all__ = ["create_app"]

logger = logging.getLogger("inferflux.http")


def create_app(server: Server) -> Litestar:
    """Build the application.

    Raises:
        LookupError: a route names no scope; nothing is served by mistake.
    """
    batches = BatchRunner(server.files, answerer(server))
    server.on_stop.append(batches.stop)
    app = Litestar(
        route_handlers=[
            *health.ROUTES,
            *administration.ROUTES,
            *(route for dialect in DIALECTS for route in dialect.routes),
        ],
        guards=[authorise],
        middleware=[AuditedActions(server.audit)],
        exception_handlers={
            InferFluxError: _on_error,
            HTTPException: _on_http_exception,
            ClientDisconnectedError: _on_disconnect,
            Exception: _on_crash,
        },
        openapi_config=OpenAPIConfig(
            title="InferFlux", version="1", enabled_endpoints=set(), render_plugins=[]
        ),
        state=State({"server": server, "batches": batches} | _shared()),
        logging_config=None,
        request_max_body_size=server.config.server.max_body_bytes,
    )
    for route in app.routes:
        for handler in _handlers(route):
            if handler.fn.__module__.startswith("inferflux"):
                scope_of(handler)
    return app


def _shared() -> dict[str, Any]:
    """What the handlers of each dialect share, under names that begin with the dialect's."""
    return {
        f"{dialect.name}_{name}": make()
        for dialect in DIALECTS
        for name, make in dialect.state.items()
    }


def _handlers(route: BaseRoute) -> list[BaseRouteHandler]:
    if isinstance(route, HTTPRoute):
        return list(route.route_handlers)
    return [route.route_handler] if isinstance(route, ASGIRoute | WebSocketRoute) else []


def _on_error(request: Request[Any, Any, Any], error: InferFluxError) -> Response[bytes]:
    server: Server = request.app.state.server
    error = server.audit.refusal(
        error,
        action=route_of(request.scope),
        client=client_of(request.scope),
        principal=request.scope.get("user"),
    )
    server.count_error(error)
    return dialect_of(request.scope["path"], request.headers).respond_error(error)


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What the framework itself refuses: unknown routes, wrong methods, bad parameters."""
    own: InferFluxError
    if error.status_code == 404:
        own = NotFoundError(f"there is no {request.method} {request.scope['path']} here")
    else:
        own = InferFluxError(error.detail)
        own.status = error.status_code
        own.code = "method_not_allowed" if error.status_code == 405 else "invalid_request"
    response = _on_error(request, own)
    if error.headers and "allow" in error.headers:
        response.headers["allow"] = error.headers["allow"]
    return response


def _on_disconnect(
    request: Request[Any, Any, Any], error: ClientDisconnectedError
) -> Response[bytes]:
    del request, error
    # Nobody reads it; 499 is what proxies log for a client that left.
    return Response(b"", status_code=499)


def _on_crash(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _on_error(request, InferFluxError("the server failed on this request; it was logged"))
