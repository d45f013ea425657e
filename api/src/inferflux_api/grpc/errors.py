"""Our errors as gRPC says them."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc

from inferflux_core.errors import InferFluxError

__all__ = ["CRASHED", "abort", "status_of"]

_STATUS: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_MAX_DETAILS: Final = 2000
"""Bytes. Clients refuse metadata of more than 8 KB, in which a byte of this may take three."""

CRASHED: Final = "the server failed on this request; it was logged"


def status_of(error: InferFluxError) -> grpc.StatusCode:
    """The status that stands for an error."""
    return _STATUS.get(error.status, grpc.StatusCode.INTERNAL)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: InferFluxError) -> NoReturn:
    """End an RPC with an error: status, message, and as metadata our code and when to try again."""
    details = error.message
    if len(encoded := details.encode("utf-8", "replace")) > _MAX_DETAILS:
        details = encoded[:_MAX_DETAILS].decode("utf-8", "ignore") + "..."
    trailing = [("error-code", error.code)]
    if error.retry_after is not None:
        # What clients' own retry policies go by.
        trailing.append(("grpc-retry-pushback-ms", str(int(error.retry_after * 1000))))
    await context.abort(status_of(error), details, tuple(trailing))
