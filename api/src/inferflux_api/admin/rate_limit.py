"""Limits of everybody."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, fields, replace

from inferflux_api.admin.exchange import READ, WRITE, answer, change, editor_of, server_of
from inferflux_api.admin.shapes import rate_limit_shape
from inferflux_api.governance.policy.document import Policy
from inferflux_api.http.body import read_json
from inferflux_api.server import Server
from inferflux_core.config.schema import LimitsConfig, PositiveInt, RateLimitConfig

__all__ = ["ROUTES", "RateLimitChange"]

_Limit = PositiveInt | None | UnsetType
_Exceptions = dict[str, LimitsConfig] | None | UnsetType


class RateLimitChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of the limits; null lifts one."""

    requests_per_minute: _Limit = UNSET
    tokens_per_minute: _Limit = UNSET
    concurrent_requests: _Limit = UNSET
    tokens_per_day: _Limit = UNSET
    per_key: LimitsConfig | UnsetType | None = UNSET
    tenants: _Exceptions = UNSET
    keys: _Exceptions = UNSET
    models: _Exceptions = UNSET
    expected_answer_tokens: PositiveInt | UnsetType = UNSET

    def over(self, before: RateLimitConfig) -> RateLimitConfig:
        """The limits as they are to be."""
        said = {name: value for name, value in asdict(self).items() if value is not UNSET}
        defaults = {field.name: getattr(RateLimitConfig(), field.name) for field in fields(before)}
        return replace(before, **{n: defaults[n] if v is None else v for n, v in said.items()})


_decoder = msgspec.json.Decoder(RateLimitChange)


@get("/v1/admin/rate_limit", opt={"scope": READ}, tags=["Administration"])
async def get_limits(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """The limits in force, without those of single keys and tenants that are told with them."""
    server = server_of(request)
    return _answer(server, server.policy.policy)


@post(
    "/v1/admin/rate_limit",
    status_code=200,
    opt={"scope": WRITE, "body": RateLimitChange},
    tags=["Administration"],
)
async def set_limits(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Change limits. The first change begins with those of the configuration."""
    server = server_of(request)
    body = await read_json(request, _decoder, **server.body_limits)
    editor = editor_of(request)
    policy = await change(
        request,
        "set limits",
        lambda policy: editor.set_limits(policy, body.over(_limits(server, policy))),
    )
    return _answer(server, policy)


@delete("/v1/admin/rate_limit", status_code=200, opt={"scope": WRITE}, tags=["Administration"])
async def reset_limits(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Go back to the limits of the configuration."""
    editor = editor_of(request)
    policy = await change(request, "reset limits", lambda policy: editor.set_limits(policy, None))
    return _answer(server_of(request), policy)


def _limits(server: Server, policy: Policy) -> RateLimitConfig:
    if policy.rate_limit is not None:
        return policy.rate_limit
    # Where to count is said in the configuration alone.
    configured = server.config.rate_limit
    return replace(configured, storage=None, on_storage_failure="refuse")


def _answer(server: Server, policy: Policy) -> Response[dict[str, Any]]:
    source = "configuration" if policy.rate_limit is None else "policy"
    shape = rate_limit_shape(_limits(server, policy))
    return answer({"object": "admin.rate_limit", **shape, "source": source}, policy.generation)


ROUTES = (get_limits, set_limits, reset_limits)
