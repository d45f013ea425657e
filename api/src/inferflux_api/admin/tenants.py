"""Tenants: what holds for all of their callers."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import FromPath
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, replace

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
from inferflux_api.admin.shapes import tenant_shape
from inferflux_api.governance.policy.document import PolicyTenant
from inferflux_api.http.body import read_json
from inferflux_core.config.schema import LimitsConfig

__all__ = ["ROUTES", "TenantChange"]


class TenantChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a tenant; null takes a restriction away."""

    disabled: bool | UnsetType = UNSET
    models: list[str] | UnsetType | None = UNSET
    limits: LimitsConfig | UnsetType | None = UNSET

    def over(self, before: PolicyTenant) -> PolicyTenant:
        """The tenant as it is to be."""
        said = {name: value for name, value in asdict(self).items() if value is not UNSET}
        if said.get("limits", UNSET) is None:
            said["limits"] = LimitsConfig()
        return replace(before, **said)


_decoder = msgspec.json.Decoder(TenantChange)


@get("/v1/admin/tenants", opt={"scope": READ}, tags=["Administration"])
async def list_tenants(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """The tenants of which the policy says something."""
    policy = server_of(request).policy.policy
    entries = [tenant_shape(name, tenant) for name, tenant in sorted(policy.tenants.items())]
    return listing(entries, policy.generation)


@post(
    "/v1/admin/tenants/{name:str}",
    status_code=200,
    opt={"scope": WRITE, "body": TenantChange},
    tags=["Administration"],
)
async def put_tenant(
    request: Request[Any, Any, Any], name: FromPath[str]
) -> Response[dict[str, Any]]:
    """Change what holds for a tenant."""
    body = await read_json(request, _decoder, **server_of(request).body_limits)
    editor = editor_of(request)
    policy = await change(
        request,
        f"set the tenant {name}",
        lambda policy: editor.put_tenant(
            policy, name, body.over(policy.tenants.get(name, PolicyTenant()))
        ),
    )
    return answer(tenant_shape(name, policy.tenants[name]), policy.generation)


@delete(
    "/v1/admin/tenants/{name:str}", status_code=200, opt={"scope": WRITE}, tags=["Administration"]
)
async def remove_tenant(
    request: Request[Any, Any, Any], name: FromPath[str]
) -> Response[dict[str, Any]]:
    """Forget what is said of a tenant."""
    editor = editor_of(request)
    policy = await change(
        request, f"remove the tenant {name}", lambda policy: editor.remove_tenant(policy, name)
    )
    return deleted("tenant", name, policy.generation)


ROUTES = (list_tenants, put_tenant, remove_tenant)
