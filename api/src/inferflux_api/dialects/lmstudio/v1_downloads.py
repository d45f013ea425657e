"""The newer REST API: models fetched while the server runs."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath

from inferflux_api.dialects.lmstudio.errors import JobNotFoundError
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.library.downloads import Download
from inferflux_api.library.names import canonical
from inferflux_api.server import Server
from inferflux_api.timestamps import timestamp

__all__ = ["ROUTES"]

_PAGES: Final = ("https://huggingface.co/", "huggingface.co/", "https://hf.co/", "hf.co/")


class DownloadBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /api/v1/models/download`."""

    model: str
    quantization: str | None = None


_download = msgspec.json.Decoder(DownloadBody)


@post(
    "/api/v1/models/download",
    status_code=200,
    opt={"scope": "models:write", "body": DownloadBody},
    tags=["LM Studio"],
)
async def download(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Begin to fetch a model; it is served once it is there."""
    server: Server = request.app.state.server
    body = await read_json(request, _download, **server.body_limits)
    name = _name(body)
    if (found := server.library.store.find(name)) is not None:
        return {"status": "already_downloaded", "total_size_bytes": found.size}
    job = server.downloads.start(name)
    await unless_disconnected(request.receive, job.begun())
    return _describe(job)


@get(
    "/api/v1/models/download/status/{job_id:str}", opt={"scope": "models:write"}, tags=["LM Studio"]
)
async def download_status(request: Request[Any, Any, Any], job_id: FromPath[str]) -> dict[str, Any]:
    """How far it has come."""
    server: Server = request.app.state.server
    job = server.downloads.get(job_id)
    if job is None:
        raise JobNotFoundError(f"there is no download '{job_id[:64]}'", param="job_id")
    return _describe(job) | {"downloaded_bytes": job.completed} | _pace(job)


def _name(body: DownloadBody) -> str:
    """The model's name in the library: `USER/REPOSITORY` and pages of the hub mean the hub."""
    name = body.model
    for prefix in _PAGES:
        if name.startswith(prefix):
            name = name[len(prefix) :]
            break
    if name.count("/") == 1:
        name = f"hf.co/{name}"
    if body.quantization:
        name = f"{name.partition(':')[0]}:{body.quantization}"
    return canonical(name)


def _describe(job: Download) -> dict[str, Any]:
    status = "downloading" if job.ended_at is None else "failed" if job.error else "completed"
    described: dict[str, Any] = {
        "job_id": job.id,
        "status": status,
        "total_size_bytes": job.total,
        "started_at": timestamp(job.started_at),
    }
    if status == "completed" and job.ended_at is not None:
        described["completed_at"] = timestamp(job.ended_at)
    return described


def _pace(job: Download) -> dict[str, Any]:
    seconds = (job.ended_at or time.time()) - job.started_at
    pace = job.completed / seconds if seconds > 0 else 0.0
    if job.ended_at is not None or not pace:
        return {"bytes_per_second": pace}
    left = (job.total - job.completed) / pace
    return {"bytes_per_second": pace, "estimated_completion": timestamp(time.time() + left)}


ROUTES = [download, download_status]
