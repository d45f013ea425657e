"""Declares the `rocm` backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from inferflux_backend_rocm.probing import BUILD_COMMAND, probe_rocm
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import BackendSpec, FileRecipe, Probe
from inferflux_runner_llamacpp.library import ggml_libraries

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_core.engine.runner import ModelRunner

__all__ = ["gpu_layers", "inferflux_backends"]

_ALL_LAYERS = -1
_CRASH_HINT = (
    "llama.cpp may have been built for another GPU or ROCm version, or the GPU's memory is too "
    "small (then lower runtime.gpu_layers); to build for this machine: " + BUILD_COMMAND
)


def gpu_layers(runtime: RuntimeConfig) -> int:
    """Layers to put on the GPU: `runtime.gpu_layers`, or all of them (-1) if it is not set."""
    return _ALL_LAYERS if runtime.gpu_layers is None else runtime.gpu_layers


def _probe() -> Probe:
    return probe_rocm(libraries=ggml_libraries())


def _load(model: ModelConfig, runtime: RuntimeConfig) -> ModelRunner:
    import inferflux_runner_llamacpp

    return inferflux_runner_llamacpp.load(model, runtime, gpu_layers=gpu_layers(runtime))


def _forget(model: ModelConfig) -> None:
    import inferflux_runner_llamacpp

    inferflux_runner_llamacpp.forget(model)


def _make_file(recipe: FileRecipe, report: Callable[[float], None]) -> None:
    import inferflux_runner_llamacpp

    inferflux_runner_llamacpp.make_file(recipe, report)


@hookimpl
def inferflux_backends() -> Iterable[BackendSpec]:
    """Declare `rocm`."""
    yield BackendSpec(
        name="rocm",
        summary="GGUF models on AMD GPUs, with llama.cpp",
        probe=_probe,
        factory=_load,
        forget=_forget,
        make_file=_make_file,
        capabilities=frozenset({"gguf"}),
        crash_hint=_CRASH_HINT,
    )
