"""Declares the `echo` backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import BackendSpec, Probe

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_core.engine.runner import ModelRunner

__all__ = ["inferflux_backends"]


def _probe() -> Probe:
    return Probe(available=True, reason="an echo needs no device")


def _load(model: ModelConfig, runtime: RuntimeConfig) -> ModelRunner:
    # Here, in the engine process, is the place for heavy imports.
    from inferflux_backend_echo.runner import EchoRunner

    return EchoRunner(runtime.max_num_seqs or 8, runtime.max_model_len or 4096)


@hookimpl
def inferflux_backends() -> Iterable[BackendSpec]:
    """Declare `echo`."""
    yield BackendSpec(
        name="echo",
        summary="Answers every prompt with the prompt",
        api_version=1,
        probe=_probe,
        factory=_load,
        needs_model=False,
    )
