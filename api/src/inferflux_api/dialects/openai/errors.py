"""Our errors in OpenAI's shape."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from inferflux_core.errors import InferFluxError

__all__ = ["error_body", "error_event", "error_headers"]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_body(error: InferFluxError) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`."""
    fallback = "invalid_request_error" if error.status < 500 else "server_error"
    body: dict[str, Any] = {
        "message": error.message,
        "type": _TYPES.get(error.status, fallback),
        "param": error.param,
        "code": error.code,
    }
    return msgspec.json.encode({"error": body})


def error_event(error: InferFluxError) -> bytes:
    """The same as an SSE event, for errors after the status line."""
    return b"data: " + error_body(error) + b"\n\n"


def error_headers(error: InferFluxError) -> dict[str, str]:
    """Headers that go with the status."""
    headers = {**error.headers, "content-type": "application/json"}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    return headers
