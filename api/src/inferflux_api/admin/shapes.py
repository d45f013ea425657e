"""How the parts of a policy look to administrators: everything but secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from inferflux_api.governance.policy.document import Change, PolicyKey, PolicyTenant
from inferflux_core.config.schema import ApiKeyConfig, RateLimitConfig

__all__ = [
    "change_shape",
    "configured_key_shape",
    "key_shape",
    "rate_limit_shape",
    "redacted",
    "role_shape",
    "tenant_shape",
]

_NO_LIMITS: Final[Mapping[str, None]] = {
    "requests_per_minute": None,
    "tokens_per_minute": None,
    "concurrent_requests": None,
    "tokens_per_day": None,
}
_SECRET: Final = ("secret", "token", "password", "key", "header", "credential")


def key_shape(key: PolicyKey) -> dict[str, Any]:
    """A key of the policy."""
    return {
        "object": "admin.api_key",
        "id": key.id,
        "name": key.name,
        "redacted_value": f"ifx_{key.id}_...",
        "scopes": key.scopes,
        "roles": key.roles,
        "tenant": key.tenant,
        "models": key.models,
        "limits": msgspec.to_builtins(key.limits),
        "created_at": int(key.created_at),
        "expires_at": None if key.expires_at is None else int(key.expires_at),
        "source": "policy",
    }


def configured_key_shape(key: ApiKeyConfig, index: int) -> dict[str, Any]:
    """A key of the configuration, which cannot be changed here."""
    return {
        "object": "admin.api_key",
        "id": None,
        "name": key.name or f"key-{index}",
        "redacted_value": None,
        "scopes": key.scopes,
        "roles": key.roles,
        "tenant": key.tenant,
        "models": None,
        "limits": dict(_NO_LIMITS),
        "created_at": None,
        "expires_at": None,
        "source": "configuration",
    }


def role_shape(name: str, scopes: list[Any], source: str = "policy") -> dict[str, Any]:
    """A role."""
    return {"object": "admin.role", "name": name, "scopes": scopes, "source": source}


def tenant_shape(name: str, tenant: PolicyTenant) -> dict[str, Any]:
    """A tenant of which something is said."""
    return {"object": "admin.tenant", "name": name, **msgspec.to_builtins(tenant)}


def rate_limit_shape(limits: RateLimitConfig) -> dict[str, Any]:
    """Limits, without where they are counted: such an address may hold a password."""
    shape: dict[str, Any] = msgspec.to_builtins(limits)
    del shape["storage"], shape["on_storage_failure"]
    return shape


def change_shape(change: Change | None) -> dict[str, Any] | None:
    """How a generation came about."""
    return None if change is None else {"at": int(change.at), "by": change.by, "what": change.what}


def redacted(value: Any, name: str = "") -> Any:
    """Options of a plugin, with anything that may be a secret by its name blotted out."""
    if isinstance(value, dict):
        return {key: redacted(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, str) and any(word in name.lower() for word in _SECRET):
        return "***"
    if isinstance(value, list):
        return [redacted(inner, name) for inner in value]
    return value
