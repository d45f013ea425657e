"""Nobody calls what the table of scopes does not let them call."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from inferflux_api.governance.authentication import PUBLIC, credential_of, require
from inferflux_api.grpc.calls import PRINCIPAL, Context
from inferflux_api.grpc.errors import CRASHED, abort
from inferflux_api.grpc.scopes import SCOPES
from inferflux_api.server import Server
from inferflux_core.errors import InferFluxError, PermissionDeniedError

__all__ = ["Gate"]

logger = logging.getLogger("inferflux.grpc")


class Gate(grpc.aio.ServerInterceptor):
    """Authenticates every RPC and requires its scope, whoever serves it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of an RPC, or one that refuses it; None if nothing of that name is served."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        try:
            await self._admit(handler_call_details)
        except InferFluxError as error:
            own = error
        except Exception as error:
            logger.error("%s failed", handler_call_details.method, exc_info=error)
            own = InferFluxError(CRASHED)
        else:
            return handler
        self._server.count_error(own)
        return _refusal(handler, own)

    async def _admit(self, details: grpc.HandlerCallDetails) -> None:
        scope = SCOPES.get(details.method)
        if scope is None:
            raise PermissionDeniedError(f"{details.method} names no scope")
        if scope == PUBLIC:
            return
        metadata = details.invocation_metadata or ()
        given = {
            name: [value for key, value in metadata if key == name and isinstance(value, str)]
            for name in ("authorization", "x-api-key")
        }
        principal = None
        try:
            credential = credential_of(given["authorization"], "".join(given["x-api-key"][:1]))
            principal = await self._server.authenticator.identify(credential)
            require(principal, scope)
        except InferFluxError as error:
            refused = self._server.audit.refusal(error, action=details.method, principal=principal)
            raise refused from None
        PRINCIPAL.set(principal)


def _refusal(
    handler: grpc.RpcMethodHandler[Any, Any], error: InferFluxError
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of the same shape."""

    async def refuse(request: object, context: Context) -> None:
        del request
        await abort(context, error)

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)
