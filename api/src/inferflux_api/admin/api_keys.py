"""API keys: made here, shown once, and known by their hashes from then on."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import FromPath
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import asdict

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
from inferflux_api.admin.shapes import configured_key_shape, key_shape
from inferflux_api.governance.policy.changes import NewKey
from inferflux_api.governance.policy.document import Label, Policy, PolicyKey
from inferflux_api.http.body import read_json
from inferflux_core.auth import Scope
from inferflux_core.config.schema import LimitsConfig
from inferflux_core.errors import InvalidRequestError, NotFoundError

__all__ = ["ROUTES", "KeyChange"]

_Models = list[Annotated[str, Meta(min_length=1, max_length=512)]]


class KeyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a key, or what a new one is to be. Times are in seconds; one of them is enough."""

    name: Label | UnsetType = UNSET
    scopes: list[Scope] | UnsetType = UNSET
    roles: list[Label] | UnsetType = UNSET
    tenant: Label | UnsetType = UNSET
    models: _Models | UnsetType | None = UNSET
    limits: LimitsConfig | UnsetType | None = UNSET
    expires_at: Annotated[float, Meta(gt=0, lt=253402300800)] | UnsetType | None = UNSET
    expires_in: Annotated[float, Meta(gt=0, le=3_155_760_000)] | UnsetType = UNSET

    def over(self, before: dict[str, Any]) -> NewKey:
        """The key as it is to be."""
        said = {name: value for name, value in asdict(self).items() if value is not UNSET}
        if "expires_in" in said:
            if "expires_at" in said:
                raise InvalidRequestError(
                    "give expires_at or expires_in, and not both", param="expires_in"
                )
            said["expires_at"] = time.time() + said.pop("expires_in")
        if said.get("limits", UNSET) is None:
            said["limits"] = LimitsConfig()
        return NewKey(**before | said)


_decoder = msgspec.json.Decoder(KeyChange)


@get("/v1/admin/api_keys", opt={"scope": READ}, tags=["Administration"])
async def list_keys(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """All API keys, those of the configuration first."""
    server = server_of(request)
    configured = [configured_key_shape(k, i) for i, k in enumerate(server.config.auth.api_keys)]
    policy = server.policy.policy
    return listing([*configured, *map(key_shape, policy.api_keys)], policy.generation)


@post(
    "/v1/admin/api_keys",
    status_code=200,
    opt={"scope": WRITE, "body": KeyChange},
    tags=["Administration"],
)
async def add_key(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Make a key. Its value is in this answer and nowhere else."""
    body = await read_json(request, _decoder, **server_of(request).body_limits)
    if body.name is UNSET:
        raise InvalidRequestError("a key needs a name", param="name")
    new, editor = body.over({}), editor_of(request)
    made: list[tuple[PolicyKey, str]] = []

    def edit(policy: Policy) -> Policy:
        policy, key, value = editor.add_key(policy, new)
        made[:] = [(key, value)]
        return policy

    policy = await change(request, f"add the key {new.name}", edit)
    ((key, value),) = made
    return answer({**key_shape(key), "value": value}, policy.generation)


@get("/v1/admin/api_keys/{key_id:str}", opt={"scope": READ}, tags=["Administration"])
async def get_key(
    request: Request[Any, Any, Any], key_id: FromPath[str]
) -> Response[dict[str, Any]]:
    """One key of the policy."""
    policy = server_of(request).policy.policy
    return answer(key_shape(_key(policy, key_id)), policy.generation)


@post(
    "/v1/admin/api_keys/{key_id:str}",
    status_code=200,
    opt={"scope": WRITE, "body": KeyChange},
    tags=["Administration"],
)
async def change_key(
    request: Request[Any, Any, Any], key_id: FromPath[str]
) -> Response[dict[str, Any]]:
    """Change what is given of a key; the next request with it feels that."""
    body = await read_json(request, _decoder, **server_of(request).body_limits)
    editor = editor_of(request)

    def edit(policy: Policy) -> Policy:
        key = _key(policy, key_id)
        before = {name: getattr(key, name) for name in NewKey.__slots__}
        return editor.change_key(policy, key_id, body.over(before))

    policy = await change(request, f"change the key {key_id}", edit)
    return answer(key_shape(_key(policy, key_id)), policy.generation)


@delete(
    "/v1/admin/api_keys/{key_id:str}",
    status_code=200,
    opt={"scope": WRITE},
    tags=["Administration"],
)
async def remove_key(
    request: Request[Any, Any, Any], key_id: FromPath[str]
) -> Response[dict[str, Any]]:
    """Take a key back: refused from the next request on, and within a second by every other server."""
    editor = editor_of(request)
    policy = await change(
        request, f"remove the key {key_id}", lambda policy: editor.remove_key(policy, key_id)
    )
    return deleted("api_key", key_id, policy.generation)


def _key(policy: Policy, identifier: str) -> PolicyKey:
    for key in policy.api_keys:
        if key.id == identifier:
            return key
    raise NotFoundError(f"there is no API key '{identifier}' in the policy")


ROUTES = (list_keys, add_key, get_key, change_key, remove_key)
