"""Our errors in Ollama's shape: one flat string."""

from __future__ import annotations

import math

import msgspec
from litestar import Response

from inferflux_core.errors import InferFluxError

__all__ = ["error_line", "respond_error"]


def respond_error(error: InferFluxError) -> Response[bytes]:
    """`{"error": "..."}`."""
    headers = {"content-type": "application/json; charset=utf-8"}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    return Response(_body(error), status_code=error.status, headers=headers)


def error_line(error: InferFluxError) -> bytes:
    """The same as the last line of a stream."""
    return _body(error) + b"\n"


def _body(error: InferFluxError) -> bytes:
    return msgspec.json.encode({"error": error.full_message})
