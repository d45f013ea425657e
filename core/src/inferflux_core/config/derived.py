"""What follows from the configuration without being written in it."""

from __future__ import annotations

from typing import Any, Final

from inferflux_core.config.schema import Config, ModelConfig

__all__ = [
    "API_KEYS",
    "auth_options",
    "auth_provider_names",
    "backend_name",
    "guardrail_names",
    "guardrail_options",
    "model_configs",
]

API_KEYS: Final = "api-keys"
"""The provider for `auth.api_keys`."""

_OIDC: Final = "oidc"
_BLOCKLIST: Final = "blocklist"


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
    """Guardrails in order of execution: as listed, or else `blocklist` if there is one."""
    if config.guardrails.enabled is not None:
        return tuple(config.guardrails.enabled)
    return (_BLOCKLIST,) if config.guardrails.blocklist else ()


def guardrail_options(config: Config, name: str) -> dict[str, Any]:
    """Options of a guardrail plugin, not yet validated."""
    if name == _BLOCKLIST:
        return {"words": config.guardrails.blocklist}
    return config.guardrails.options.get(name, {})


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
