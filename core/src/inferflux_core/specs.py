"""What plugins declare: small frozen records, returned by hooks on the cold path only.

A spec names a factory; nothing heavy is imported until the factory is called, and factories are called
only for what the configuration selects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from inferflux_core.auth import AuthProvider
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_core.engine.runner import ModelRunner
    from inferflux_core.engine.scheduler import Scheduler, SchedulerLimits
    from inferflux_core.guardrails import Guardrail, Reviewer

__all__ = [
    "PLUGIN_API_VERSION",
    "AuthProviderSpec",
    "BackendSpec",
    "EmptyConfig",
    "FileRecipe",
    "GuardrailSpec",
    "PluginSpec",
    "Probe",
    "SchedulerSpec",
]

PLUGIN_API_VERSION: Final = 1
"""Bumped when a spec or protocol changes so that older plugins would misbehave."""


class EmptyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a plugin that has none."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer of a backend to "can you run on this machine?".

    Attributes:
        available: whether a model can be loaded here.
        reason: one line for the operator, whichever the answer is.
        devices: human-readable device names, e.g. `("AMD EPYC, 2 cores",)`.
    """

    available: bool
    reason: str
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileRecipe:
    """How to make one model file of another.

    Attributes:
        source: a GGUF file, or a folder with safetensors as Hugging Face lays it out.
        target: the file to write.
        quantization: of the new file's weights, such as `Q4_K_M`; None keeps them as they are.
    """

    source: Path
    target: Path
    quantization: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSpec:
    """What every kind of plugin declares.

    Attributes:
        name: the name used in configuration; equals the entry point's name.
        summary: one line for `inferctl plugins list`.
        config_type: msgspec Struct that validates this plugin's options.
        api_version: the plugin API it was written for.
    """

    name: str
    summary: str
    config_type: type[msgspec.Struct] = EmptyConfig
    api_version: int = PLUGIN_API_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec(PluginSpec):
    """A way to execute models on one kind of device.

    Attributes:
        probe: cheap and free of side effects; runs in the API process and may not import torch or
            open a device for keeps.
        factory: loads the model and returns its runner; runs in the engine process.
        capabilities: what the backend can do, e.g. `frozenset({"gguf", "lora"})`.
        environment: variables to set in the engine process before its libraries load.
        crash_hint: what an operator should do when the engine dies during its start-up probe.
        needs_model: whether `model.path` must be set.
        forget: throws away what the factory keeps about a model from one load to the next, such as what it
            has measured; called before the factory when the operator asks for it anew.
        make_file: converts or quantizes a model, and reports the share that is done, 0 to 1; raises
            `ModelLoadError` for what it cannot make. Runs in a process of its own.
    """

    probe: Callable[[], Probe]
    factory: Callable[[ModelConfig, RuntimeConfig], ModelRunner]
    capabilities: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    crash_hint: str | None = None
    needs_model: bool = True
    forget: Callable[[ModelConfig], None] | None = None
    make_file: Callable[[FileRecipe, Callable[[float], None]], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSpec(PluginSpec):
    """A policy that decides what the engine computes next.

    `factory` receives what the scheduler must respect, and a `config_type` instance.
    """

    factory: Callable[[SchedulerLimits, Any], Scheduler]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailSpec(PluginSpec):
    """A check on prompts and on generated text. `factory` receives a `config_type` instance."""

    factory: Callable[[Any], Guardrail | Reviewer]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthProviderSpec(PluginSpec):
    """A way to turn a bearer credential into a principal. `factory` receives a `config_type` instance."""

    factory: Callable[[Any], AuthProvider]
