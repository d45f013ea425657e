"""All routes of administrators."""

from __future__ import annotations

from typing import Final

from inferflux_api.admin import api_keys, audit, guardrails, policy, rate_limit, roles, tenants

__all__ = ["ROUTES"]

ROUTES: Final = (
    *api_keys.ROUTES,
    *roles.ROUTES,
    *tenants.ROUTES,
    *rate_limit.ROUTES,
    *guardrails.ROUTES,
    *policy.ROUTES,
    *audit.ROUTES,
)
