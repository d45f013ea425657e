"""Refusing WebSockets as HTTP requests are refused: with a status and a reason."""

from __future__ import annotations

from litestar.connection import ASGIConnection
from litestar.types import ASGIApp, Receive, Scope, Send

from inferflux_api.dialects.openai.errors import error_body, error_headers
from inferflux_api.governance.audit.web import client_of, route_of
from inferflux_api.governance.authentication import authorise
from inferflux_core.errors import InferFluxError

__all__ = ["refuse_over_http"]


def refuse_over_http(app: ASGIApp) -> ASGIApp:
    """Middleware that authorises before the handshake: afterwards there would be only close codes."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await authorise(ASGIConnection(scope, receive, send), scope["route_handler"])
        except InferFluxError as refused:
            server = scope["litestar_app"].state.server
            error = server.audit.refusal(
                refused,
                action=route_of(scope),
                client=client_of(scope),
                principal=scope.get("user"),
            )
            server.count_error(error)
            headers = [(k.encode(), v.encode()) for k, v in error_headers(error).items()]
            await send(
                {
                    "type": "websocket.http.response.start",
                    "status": error.status,
                    "headers": headers,
                }
            )
            await send(
                {"type": "websocket.http.response.body", "body": error_body(error)}  # type: ignore[arg-type]
            )
            return
        await app(scope, receive, send)

    return middleware
