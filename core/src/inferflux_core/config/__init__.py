"""Configuration: its schema, how it is read, and what follows from it."""

from __future__ import annotations

from inferflux_core.config.derived import (
    API_KEYS,
    auth_options,
    auth_provider_names,
    backend_name,
    guardrail_names,
    guardrail_options,
    guardrail_rule,
    model_configs,
)
from inferflux_core.config.loader import load_config
from inferflux_core.config.schema import Config, json_schema

__all__ = [
    "API_KEYS",
    "Config",
    "auth_options",
    "auth_provider_names",
    "backend_name",
    "guardrail_names",
    "guardrail_options",
    "guardrail_rule",
    "json_schema",
    "load_config",
    "model_configs",
]
