"""Our errors in Anthropic's shape."""

from __future__ import annotations

import math
import secrets
from typing import Any, Final

import msgspec
from litestar import Response

from inferflux_api.dialects.anthropic.limits import limit_headers
from inferflux_core.errors import EngineUnavailableError, InferFluxError, QueueFullError

__all__ = ["error_event", "new_request_id", "respond_error"]

_OVERLOADED: Final = 529
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    _OVERLOADED: "overloaded_error",
}


def respond_error(error: InferFluxError) -> Response[bytes]:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""
    request_id = new_request_id()
    headers = {
        **error.headers,
        **limit_headers(error.headers),
        "content-type": "application/json",
        "request-id": request_id,
    }
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    return Response(_body(error, request_id), status_code=_status(error), headers=headers)


def error_event(error: InferFluxError) -> bytes:
    """The same as an event, for errors after the status line."""
    return b"event: error\ndata: " + _body(error, new_request_id()) + b"\n\n"


def new_request_id() -> str:
    """A name for a request, as Anthropic's look."""
    return f"req_{secrets.token_hex(12)}"


def _status(error: InferFluxError) -> int:
    if isinstance(error, QueueFullError | EngineUnavailableError):
        return _OVERLOADED
    return error.status


def _body(error: InferFluxError, request_id: str) -> bytes:
    status = _status(error)
    fallback = "invalid_request_error" if status < 500 else "api_error"
    body: dict[str, Any] = {
        "type": "error",
        "error": {"type": _TYPES.get(status, fallback), "message": error.full_message},
        "request_id": request_id,
    }
    return msgspec.json.encode(body)
