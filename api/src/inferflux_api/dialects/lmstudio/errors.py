"""Our errors in LM Studio's shapes."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from litestar import Response

from inferflux_core.errors import InferFluxError, ModelNotFoundError

__all__ = ["error_object", "respond_error", "sdk_error"]


def error_object(error: InferFluxError) -> dict[str, Any]:
    """`{"type", "message", "code", "param"}`."""
    kind = "invalid_request" if error.status < 500 else "internal_error"
    if isinstance(error, ModelNotFoundError):
        kind = "model_not_found"
    return {"type": kind, "message": error.message, "code": error.code, "param": error.param}


def respond_error(error: InferFluxError) -> Response[bytes]:
    """`{"error": {...}}`."""
    headers = {"content-type": "application/json"}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    body = msgspec.json.encode({"error": error_object(error)})
    return Response(body, status_code=error.status, headers=headers)


def sdk_error(error: InferFluxError) -> dict[str, Any]:
    """As the SDKs parse it; they have an exception of its own for unknown models."""
    details: dict[str, Any] = {"title": error.message, "rootTitle": error.message}
    if isinstance(error, ModelNotFoundError):
        details["displayData"] = {
            "code": "generic.noModelMatchingQuery",
            "query": {},
            "loadedModelsSample": [],
            "totalLoadedModels": 0,
        }
    return details
