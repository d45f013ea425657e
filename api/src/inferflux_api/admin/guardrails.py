"""Guardrails: which run, in which order, and what they are told."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from inferflux_api.admin.exchange import READ, WRITE, answer, change, editor_of, server_of
from inferflux_api.admin.shapes import redacted
from inferflux_api.governance.policy.document import Policy, PolicyGuardrails
from inferflux_api.governance.policy.effect import apply_policy
from inferflux_api.http.body import read_json
from inferflux_api.server import Server
from inferflux_core.config import guardrail_names
from inferflux_core.plugins.kinds import GUARDRAIL

__all__ = ["ROUTES", "GuardrailsChange"]

_Options = dict[str, dict[str, Any] | None]


class GuardrailsChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; null leaves it to the configuration. Options are replaced by guardrail."""

    enabled: list[str] | UnsetType | None = UNSET
    blocklist: list[str] | UnsetType | None = UNSET
    options: _Options | UnsetType | None = UNSET

    def over(self, before: PolicyGuardrails) -> PolicyGuardrails:
        """What the policy is to say."""
        options = before.options
        if self.options is None:
            options = {}
        elif self.options is not UNSET:
            merged = {**options, **self.options}
            options = {name: said for name, said in merged.items() if said is not None}
        return replace(
            before,
            options=options,
            enabled=before.enabled if self.enabled is UNSET else self.enabled,
            blocklist=before.blocklist if self.blocklist is UNSET else self.blocklist,
        )


_decoder = msgspec.json.Decoder(GuardrailsChange)


@get("/v1/admin/guardrails", opt={"scope": READ}, tags=["Administration"])
async def get_guardrails(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """What is in force, and where it is said."""
    server = server_of(request)
    return _answer(server, server.policy.policy)


@post(
    "/v1/admin/guardrails",
    status_code=200,
    opt={"scope": WRITE, "body": GuardrailsChange},
    tags=["Administration"],
)
async def set_guardrails(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Change guardrails; requests that run already keep those that they began with."""
    body = await read_json(request, _decoder, **server_of(request).body_limits)
    editor = editor_of(request)
    policy = await change(
        request,
        "set guardrails",
        lambda policy: editor.set_guardrails(policy, body.over(policy.guardrails)),
    )
    return _answer(server_of(request), policy)


@delete("/v1/admin/guardrails", status_code=200, opt={"scope": WRITE}, tags=["Administration"])
async def reset_guardrails(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Go back to what the configuration says."""
    editor = editor_of(request)
    policy = await change(
        request,
        "reset guardrails",
        lambda policy: editor.set_guardrails(policy, PolicyGuardrails()),
    )
    return _answer(server_of(request), policy)


def _answer(server: Server, policy: Policy) -> Response[dict[str, Any]]:
    config = apply_policy(server.config, policy)
    said = policy.guardrails
    body = {
        "object": "admin.guardrails",
        "enabled": list(guardrail_names(config)),
        "blocklist": config.guardrails.blocklist,
        "options": redacted(config.guardrails.options),
        "available": server.plugins.names(GUARDRAIL),
        "source": {
            name: "configuration" if getattr(said, name) is None else "policy"
            for name in ("enabled", "blocklist")
        },
    }
    return answer(body, policy.generation)


ROUTES = (get_guardrails, set_guardrails, reset_guardrails)
