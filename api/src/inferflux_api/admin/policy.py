"""The policy as a whole: what is in force, how it came about, and the way back."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath
from msgspec import Meta

from inferflux_api.admin.exchange import (
    READ,
    WRITE,
    answer,
    change,
    editor_of,
    listing,
    server_of,
)
from inferflux_api.admin.shapes import (
    change_shape,
    key_shape,
    rate_limit_shape,
    redacted,
    role_shape,
    tenant_shape,
)
from inferflux_api.governance.policy.document import Policy
from inferflux_api.http.body import read_json
from inferflux_api.server import Server

__all__ = ["ROUTES", "Rollback"]


class Rollback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to go back to."""

    generation: Annotated[int, Meta(ge=1)]


_decoder = msgspec.json.Decoder(Rollback)


@get("/v1/admin/policy", opt={"scope": READ}, tags=["Administration"])
async def get_policy(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """What is in force, and where it is kept."""
    server = server_of(request)
    return _answer(server, server.policy.policy)


@get("/v1/admin/policy/generations", opt={"scope": READ}, tags=["Administration"])
async def list_generations(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """How the policy became what it is, newest first."""
    server = server_of(request)
    current = server.policy.generation
    entries = [_generation(policy, current) for policy in await server.policy.generations()]
    return listing(entries, current)


@get("/v1/admin/policy/generations/{number:int}", opt={"scope": READ}, tags=["Administration"])
async def get_generation(
    request: Request[Any, Any, Any], number: FromPath[int]
) -> Response[dict[str, Any]]:
    """What one generation said."""
    server = server_of(request)
    policy = await server.policy.at(number)
    limits = policy.rate_limit
    guardrails = msgspec.to_builtins(policy.guardrails)
    body = {
        **_generation(policy, server.policy.generation),
        "api_keys": [key_shape(key) for key in policy.api_keys],
        "roles": [role_shape(name, scopes) for name, scopes in sorted(policy.roles.items())],
        "tenants": [tenant_shape(name, said) for name, said in sorted(policy.tenants.items())],
        "rate_limit": None if limits is None else rate_limit_shape(limits),
        "guardrails": {**guardrails, "options": redacted(guardrails["options"])},
    }
    return answer(body, number)


@post(
    "/v1/admin/policy/rollback",
    status_code=200,
    opt={"scope": WRITE, "body": Rollback},
    tags=["Administration"],
)
async def roll_back(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Say again what an earlier generation said, in a new one; API keys stay as they are."""
    server = server_of(request)
    body = await read_json(request, _decoder, **server.body_limits)
    old = await server.policy.at(body.generation)
    editor = editor_of(request)
    policy = await change(
        request, f"roll back to {old.generation}", lambda policy: editor.restore(policy, old)
    )
    return _answer(server, policy)


def _answer(server: Server, policy: Policy) -> Response[dict[str, Any]]:
    live = server.policy
    body = {
        "object": "admin.policy",
        "store": None if policy.generation == 0 else str(policy.store),
        "location": live.location,
        "sealed": live.sealed,
        "age_seconds": round(live.age, 3),
        "change": change_shape(policy.change),
        "api_keys": len(policy.api_keys),
        "roles": len(policy.roles),
        "tenants": len(policy.tenants),
    }
    return answer(body, policy.generation)


def _generation(policy: Policy, current: int) -> dict[str, Any]:
    return {
        "object": "admin.policy.generation",
        "generation": policy.generation,
        "current": policy.generation == current,
        "change": change_shape(policy.change),
    }


ROUTES = (get_policy, list_generations, get_generation, roll_back)
