"""`/v1/batches`."""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath

from inferflux_api.batches.records import Batch
from inferflux_api.batches.runner import BatchRunner
from inferflux_api.dialects.openai.dispatch import BATCH_ENDPOINTS
from inferflux_api.dialects.openai.paging import page
from inferflux_api.http.body import read_json
from inferflux_api.server import Server
from inferflux_core.errors import InvalidRequestError

__all__ = ["ROUTES", "CreateBatch"]

_UNITS: Final = {"h": 3600, "m": 60, "d": 86400}
_LONGEST: Final = 7 * 86400
_TIMES: Final = (
    *("cancelled_at", "cancelling_at", "completed_at", "expired_at", "failed_at"),
    *("finalizing_at", "in_progress_at"),
)


class CreateBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/batches`.

    Attributes:
        input_file_id: a file with a request per line.
        endpoint: that all of them are for.
        completion_window: after which what is not answered is given up, e.g. `24h`.
        metadata: of the client, which gets it back.
    """

    input_file_id: str
    endpoint: str
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(CreateBatch)


@post(
    "/v1/batches", status_code=200, opt={"scope": "generate", "body": CreateBatch}, tags=["OpenAI"]
)
async def create_batch(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Answer the requests in a file, after everything else that waits."""
    server: Server = request.app.state.server
    body = await read_json(request, _decoder, **server.body_limits)
    if body.endpoint not in BATCH_ENDPOINTS:
        raise InvalidRequestError(f"batches are for {', '.join(BATCH_ENDPOINTS)}", param="endpoint")
    now = int(time.time())
    batch = Batch(
        id=f"batch_{secrets.token_hex(12)}",
        tenant=request.user.tenant,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        created_at=now,
        expires_at=now + _seconds(body.completion_window),
        metadata=body.metadata,
    )
    _runner(request).start(request.user, batch)
    return describe(batch)


@get("/v1/batches", opt={"scope": "generate"}, tags=["OpenAI"])
async def list_batches(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The caller's batches, a page at a time."""
    found = _runner(request).records.of_tenant(request.user.tenant)
    return page(request, [describe(batch) for batch in found], usual=20)


@get("/v1/batches/{batch_id:str}", opt={"scope": "generate"}, tags=["OpenAI"])
async def get_batch(request: Request[Any, Any, Any], batch_id: FromPath[str]) -> dict[str, Any]:
    """How far a batch has come."""
    return describe(_runner(request).records.get(request.user.tenant, batch_id))


@post(
    "/v1/batches/{batch_id:str}/cancel",
    status_code=200,
    opt={"scope": "generate"},
    tags=["OpenAI"],
)
async def cancel_batch(request: Request[Any, Any, Any], batch_id: FromPath[str]) -> dict[str, Any]:
    """End a batch; what it has answered is kept."""
    runner = _runner(request)
    batch = runner.records.get(request.user.tenant, batch_id)
    await runner.cancel(batch)
    return describe(batch)


def _runner(request: Request[Any, Any, Any]) -> BatchRunner:
    runner: BatchRunner = request.app.state.batches
    return runner


def _seconds(window: str) -> int:
    number, unit = window[:-1], window[-1:]
    if not number.isdecimal() or len(number) > 6 or unit not in _UNITS:
        raise InvalidRequestError(
            "completion_window is a number of hours such as 24h", param="completion_window"
        )
    return min(int(number) * _UNITS[unit], _LONGEST)


def describe(batch: Batch) -> dict[str, Any]:
    """A batch in OpenAI's shape."""
    errors = [msgspec.to_builtins(error) for error in batch.errors]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        **{name: batch.times.get(name) for name in _TIMES},
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "metadata": batch.metadata,
    }


ROUTES = [create_batch, list_batches, get_batch, cancel_batch]
