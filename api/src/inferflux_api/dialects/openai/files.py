"""`/v1/files`."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, delete, get, post
from litestar.datastructures import UploadFile
from litestar.params import FromPath
from litestar.response import File

from inferflux_api.dialects.openai.paging import page
from inferflux_api.files import StoredFile
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.errors import InvalidRequestError, PayloadTooLargeError

__all__ = ["ROUTES"]

_PURPOSES: Final = ("batch", "assistants", "user_data", "evals")


@post(
    "/v1/files",
    status_code=200,
    opt={"scope": "generate"},
    tags=["OpenAI"],
    request_max_body_size=None,
)
async def upload(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Keep a file, sent as a form with the fields `file` and `purpose`."""
    server: Server = request.app.state.server
    limit = server.config.files.max_file_bytes
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal():
        raise InvalidRequestError("uploads need a Content-Length header")
    if int(declared) > limit:
        raise PayloadTooLargeError(
            f"files of over {limit} bytes are not accepted (`files.max_file_bytes`)"
        )
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidRequestError("a file is sent as multipart/form-data")
    try:
        form = await request.form()
    except (UnicodeError, LookupError) as error:
        raise InvalidRequestError(f"a field of the form is not text: {error}") from error
    upload, purpose = form.get("file"), form.get("purpose")
    if not isinstance(upload, UploadFile):
        raise InvalidRequestError("the form has no file in its field `file`", param="file")
    if purpose not in _PURPOSES:
        raise InvalidRequestError(f"purpose must be one of {', '.join(_PURPOSES)}", param="purpose")
    principal: Principal = request.user
    name = upload.filename.rpartition("/")[2][:255] or "file"
    return describe(server.files.add(principal.tenant, name, purpose, upload.file))


@get("/v1/files", opt={"scope": "generate"}, tags=["OpenAI"])
async def list_files(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The caller's files, a page at a time."""
    server: Server = request.app.state.server
    found = server.files.of_tenant(request.user.tenant, request.query_params.get("purpose"))
    return page(request, [describe(file) for file in found])


@get("/v1/files/{file_id:str}", opt={"scope": "generate"}, tags=["OpenAI"])
async def get_file(request: Request[Any, Any, Any], file_id: FromPath[str]) -> dict[str, Any]:
    """What is known about a file."""
    server: Server = request.app.state.server
    return describe(server.files.get(request.user.tenant, file_id))


@get("/v1/files/{file_id:str}/content", opt={"scope": "generate"}, tags=["OpenAI"])
async def get_content(request: Request[Any, Any, Any], file_id: FromPath[str]) -> File:
    """The bytes of a file."""
    server: Server = request.app.state.server
    file = server.files.get(request.user.tenant, file_id)
    return File(
        server.files.path(file), filename=file.filename, media_type="application/octet-stream"
    )


@delete("/v1/files/{file_id:str}", status_code=200, opt={"scope": "generate"}, tags=["OpenAI"])
async def delete_file(request: Request[Any, Any, Any], file_id: FromPath[str]) -> dict[str, Any]:
    """Forget a file."""
    server: Server = request.app.state.server
    server.files.delete(request.user.tenant, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def describe(file: StoredFile) -> dict[str, Any]:
    """A file in OpenAI's shape."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


ROUTES = [upload, list_files, get_file, get_content, delete_file]
