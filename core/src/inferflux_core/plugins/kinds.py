"""The kinds of plugin, and what to install for the ones this project ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from inferflux_core.specs import (
    AuthProviderSpec,
    BackendSpec,
    GuardrailSpec,
    PluginSpec,
    SchedulerSpec,
)

__all__ = ["AUTH", "BACKEND", "GUARDRAIL", "KINDS", "KNOWN_PLUGINS", "SCHEDULER", "Kind", "SpecT"]

SpecT = TypeVar("SpecT", bound=PluginSpec)


@dataclass(frozen=True, slots=True)
class Kind(Generic[SpecT]):
    """One kind of plugin.

    Attributes:
        name: what messages and the command line call it.
        group: entry-point group; the name of an entry point in it is the name used in configuration.
        hook: the hook that declares its specs.
        spec_type: what the hook yields.
    """

    name: str
    group: str
    hook: str
    spec_type: type[SpecT]


BACKEND: Final = Kind("backend", "inferflux.backends", "inferflux_backends", BackendSpec)
SCHEDULER: Final = Kind("scheduler", "inferflux.schedulers", "inferflux_schedulers", SchedulerSpec)
GUARDRAIL: Final = Kind("guardrail", "inferflux.guardrails", "inferflux_guardrails", GuardrailSpec)
AUTH: Final = Kind("auth", "inferflux.auth", "inferflux_auth_providers", AuthProviderSpec)

KINDS: Final[Mapping[str, Kind[Any]]] = {
    kind.name: kind for kind in (BACKEND, SCHEDULER, GUARDRAIL, AUTH)
}

KNOWN_PLUGINS: Final[Mapping[tuple[str, str], str]] = {
    ("backend", "cpu"): "inferflux[cpu]",
    ("backend", "cuda"): "inferflux[cuda]",
    ("backend", "mlx-cpu"): "inferflux[mlx-cpu]",
    ("backend", "rocm"): "inferflux[rocm]",
    ("backend", "mps"): "inferflux[mps]",
    ("scheduler", "fair"): "inferflux[fair]",
    ("guardrail", "opa"): "inferflux[opa]",
    ("guardrail", "pii"): "inferflux[pii]",
    ("guardrail", "rego"): "inferflux[rego]",
    ("guardrail", "cedar"): "inferflux[cedar]",
    ("guardrail", "webhook"): "inferflux[webhook]",
    ("guardrail", "presidio"): "inferflux[presidio]",
    ("auth", "oidc"): "inferflux[oidc]",
}
"""Kind and name to what pip installs; used in messages only."""
