"""What a policy does to a configuration."""

from __future__ import annotations

from msgspec.structs import replace

from inferflux_api.governance.policy.document import Policy
from inferflux_core.config import Config, guardrail_names
from inferflux_core.config.schema import GuardrailsConfig, LimitsConfig, RateLimitConfig

__all__ = ["apply_policy"]

_BLOCKLIST = "blocklist"
_NOTHING = LimitsConfig()


def apply_policy(config: Config, policy: Policy) -> Config:
    """The configuration with what the policy says instead, of limits and guardrails."""
    return replace(
        config,
        rate_limit=_limits(config.rate_limit, policy),
        guardrails=_guardrails(config, policy),
    )


def _limits(configured: RateLimitConfig, policy: Policy) -> RateLimitConfig:
    limits = policy.rate_limit or configured
    tenants = {n: t.limits for n, t in policy.tenants.items() if t.limits != _NOTHING}
    keys = {key.name: key.limits for key in policy.api_keys if key.limits != _NOTHING}
    return replace(
        limits,
        tenants=limits.tenants | tenants,
        keys=limits.keys | keys,
        # Where to count is a matter of the place, and cannot change while requests run.
        storage=configured.storage,
        on_storage_failure=configured.on_storage_failure,
    )


def _guardrails(config: Config, policy: Policy) -> GuardrailsConfig:
    said, configured = policy.guardrails, config.guardrails
    guardrails = replace(configured, options=configured.options | said.options)
    if said.enabled is not None:
        guardrails = replace(guardrails, enabled=said.enabled)
    if said.blocklist is not None:
        guardrails = replace(guardrails, blocklist=said.blocklist)
        names = guardrail_names(replace(config, guardrails=guardrails))
        if said.blocklist and said.enabled is None and _BLOCKLIST not in names:
            guardrails = replace(guardrails, enabled=[_BLOCKLIST, *names])
    return guardrails
