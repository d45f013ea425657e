"""What the routes of administrators have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from litestar import Request, Response

from inferflux_api.governance.policy.changes import Editor
from inferflux_api.governance.policy.document import Policy
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.errors import InvalidRequestError

__all__ = ["READ", "WRITE", "answer", "change", "deleted", "editor_of", "listing", "server_of"]

READ: Final = "policy:read"
WRITE: Final = "policy:write"
_ETAG: Final = re.compile(r'(?:W/)?"?([0-9]{1,18})"?')


def server_of(request: Request[Any, Any, Any]) -> Server:
    """The server that answers."""
    server: Server = request.app.state.server
    return server


def editor_of(request: Request[Any, Any, Any]) -> Editor:
    """Changes policies as far as whoever asks may."""
    principal: Principal = request.user
    return Editor(principal.scopes, server_of(request).config.auth.roles, tenant=principal.tenant)


async def change(
    request: Request[Any, Any, Any], what: str, edit: Callable[[Policy], Policy]
) -> Policy:
    """Change the policy, if it is of the generation that the request names.

    Raises:
        InferFluxError: see `LivePolicy.change`.
    """
    principal: Principal = request.user
    return await server_of(request).policy.change(
        edit, by=principal.subject, what=what, expected=_expected(request)
    )


def answer(body: dict[str, Any], generation: int) -> Response[dict[str, Any]]:
    """An answer that says of which generation it is."""
    return Response({**body, "generation": generation}, headers={"etag": f'"{generation}"'})


def listing(entries: list[dict[str, Any]], generation: int) -> Response[dict[str, Any]]:
    """Several of a kind; they all fit into one answer."""
    return answer({"object": "list", "data": entries}, generation)


def deleted(kind: str, identifier: str, generation: int) -> Response[dict[str, Any]]:
    """That something is gone."""
    body = {"object": f"admin.{kind}.deleted", "id": identifier, "deleted": True}
    return answer(body, generation)


def _expected(request: Request[Any, Any, Any]) -> int | None:
    wanted = request.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return None
    match = _ETAG.fullmatch(wanted.strip())
    if match is None:
        raise InvalidRequestError(
            'If-Match is to be a generation, as in the ETag of an answer: "7"', param="If-Match"
        )
    return int(match[1])
