"""Our errors in LM Studio's shapes."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
from litestar import Response

from inferflux_core.errors import InferFluxError, ModelNotFoundError, NotFoundError

__all__ = [
    "JobNotFoundError",
    "PresetNotFoundError",
    "error_object",
    "respond_error",
    "sdk_error",
]

_TYPES: Final = {
    "model_not_found": "model_not_found",
    "job_not_found": "job_not_found",
}


class JobNotFoundError(NotFoundError):
    """No download has this id."""

    code = "job_not_found"


class PresetNotFoundError(NotFoundError):
    """No preset has this name."""

    code = "preset_not_found"


def error_object(error: InferFluxError) -> dict[str, Any]:
    """`{"type", "message", "code", "param"}`."""
    usual = "invalid_request" if error.status < 500 else "internal_error"
    kind = _TYPES.get(error.code, usual)
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
    """As the SDKs parse it; for unknown models and presets they have exceptions of their own."""
    details: dict[str, Any] = {"title": error.message, "rootTitle": error.message}
    if isinstance(error, ModelNotFoundError):
        details["displayData"] = {
            "code": "generic.noModelMatchingQuery",
            "query": {},
            "loadedModelsSample": [],
            "totalLoadedModels": 0,
        }
    elif isinstance(error, PresetNotFoundError):
        details["displayData"] = {
            "code": "generic.presetNotFound",
            "specifiedFuzzyPresetIdentifier": "",
            "availablePresetsSample": [],
            "totalAvailablePresets": 0,
        }
    return details
