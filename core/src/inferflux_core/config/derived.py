"""What follows from the configuration without being written in it."""

from __future__ import annotations

from typing import Any, Final, Literal

from inferflux_core.config.schema import Config, ModelConfig

__all__ = [
    "API_KEYS",
    "auth_options",
    "auth_provider_names",
    "backend_name",
    "guardrail_names",
    "guardrail_options",
    "guardrail_rule",
    "model_configs",
]

API_KEYS: Final = "api-keys"
"""The provider for `auth.api_keys`."""

_OIDC: Final = "oidc"
_BLOCKLIST: Final = "blocklist"
_OPA: Final = "opa"


def auth_provider_names(config: Config) -> tuple[str, ...]:
    """Providers in order of trial: as listed, or else those whose settings are present."""
    if config.auth.providers is not None:
        return tuple(config.auth.providers)
    implied = ((API_KEYS, bool(config.auth.api_keys)), (_OIDC, config.auth.oidc is not None))
    return tuple(name for name, present in implied if present)


def auth_options(config: Config, name: str) -> dict[str, Any]:
    """Options of an authentication plugin, not yet validated."""
    if name == _OIDC:
        return config.auth.oidc or {}
    return config.auth.options.get(name, {})


def guardrail_names(config: Config) -> tuple[str, ...]:
    """Guardrails in order of execution: as listed, or else those whose settings are present."""
    guardrails = config.guardrails
    if guardrails.enabled is not None:
        return tuple(guardrails.enabled)
    implied = (
        (_BLOCKLIST, bool(guardrails.blocklist)),
        (_OPA, guardrails.opa_endpoint is not None),
    )
    return tuple(name for name, present in implied if present)


def guardrail_options(config: Config, name: str) -> dict[str, Any]:
    """Options of a guardrail plugin, not yet validated, without those that `guardrail_rule` reads."""
    options = {
        key: value
        for key, value in config.guardrails.options.get(name, {}).items()
        if key != "on_failure" and (key, value) not in (("action", "flag"), ("action", "log"))
    }
    if name == _BLOCKLIST:
        return {**options, "words": config.guardrails.blocklist}
    if name == _OPA and config.guardrails.opa_endpoint is not None:
        return {**options, "endpoint": config.guardrails.opa_endpoint}
    return options


def guardrail_rule(
    config: Config, name: str
) -> tuple[Literal["enforce", "flag", "log"], Literal["block", "allow"]]:
    """What becomes of a guardrail's findings, and of a text when it fails."""
    options = config.guardrails.options.get(name, {})
    action = options.get("action")
    return (
        action if action in ("flag", "log") else "enforce",
        "allow" if options.get("on_failure") == "allow" else "block",
    )


def model_configs(config: Config) -> tuple[ModelConfig, ...]:
    """Every model to serve, never empty: `model`, unless only `models` is used, then `models`."""
    if config.model.path is None and config.models:
        return tuple(config.models)
    return (config.model, *config.models)


def backend_name(config: Config) -> str:
    """The backend: as configured, or else `cpu` if there is a model to load and `stub` if not."""
    if config.runtime.backend is not None:
        return config.runtime.backend
    return "stub" if model_configs(config)[0].path is None else "cpu"
