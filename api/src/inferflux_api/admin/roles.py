"""Roles: names for several scopes."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import FromPath

from inferflux_api.admin.exchange import (
    READ,
    WRITE,
    answer,
    change,
    deleted,
    editor_of,
    listing,
    server_of,
)
from inferflux_api.admin.shapes import role_shape
from inferflux_api.http.body import read_json
from inferflux_core.auth import Scope

__all__ = ["ROUTES", "RoleChange"]


class RoleChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a role stands for."""

    scopes: list[Scope]


_decoder = msgspec.json.Decoder(RoleChange)


@get("/v1/admin/roles", opt={"scope": READ}, tags=["Administration"])
async def list_roles(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """All roles, those of the configuration first."""
    server = server_of(request)
    policy = server.policy.policy
    configured = server.config.auth.roles.items()
    entries = [role_shape(name, scopes, "configuration") for name, scopes in configured]
    entries += [role_shape(name, scopes) for name, scopes in sorted(policy.roles.items())]
    return listing(entries, policy.generation)


@post(
    "/v1/admin/roles/{name:str}",
    status_code=200,
    opt={"scope": WRITE, "body": RoleChange},
    tags=["Administration"],
)
async def put_role(
    request: Request[Any, Any, Any], name: FromPath[str]
) -> Response[dict[str, Any]]:
    """Make a role, or let it stand for something else."""
    body = await read_json(request, _decoder, **server_of(request).body_limits)
    editor = editor_of(request)
    policy = await change(
        request, f"set the role {name}", lambda policy: editor.put_role(policy, name, body.scopes)
    )
    return answer(role_shape(name, policy.roles[name]), policy.generation)


@delete(
    "/v1/admin/roles/{name:str}", status_code=200, opt={"scope": WRITE}, tags=["Administration"]
)
async def remove_role(
    request: Request[Any, Any, Any], name: FromPath[str]
) -> Response[dict[str, Any]]:
    """Forget a role that no key has."""
    editor = editor_of(request)
    policy = await change(
        request, f"remove the role {name}", lambda policy: editor.remove_role(policy, name)
    )
    return deleted("role", name, policy.generation)


ROUTES = (list_roles, put_role, remove_role)
