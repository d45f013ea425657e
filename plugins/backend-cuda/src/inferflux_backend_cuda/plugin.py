"""Declares the `cuda` backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from inferflux_backend_cuda.probing import BUILD_COMMAND, NO_BUILD, probe_cuda
from inferflux_core.backends.runner_choice import choose_runner, has_torch_library, model_formats
from inferflux_core.errors import ModelLoadError
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import BackendSpec, FileRecipe, Probe
from inferflux_runner_llamacpp.library import ggml_libraries

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_core.engine.runner import ModelRunner

__all__ = ["gpu_layers", "inferflux_backends", "load"]

_DISTRIBUTION = "inferflux-backend-cuda"
_ALL_LAYERS = -1
_CRASH_HINT = (
    "the driver may be older than the CUDA toolkit that llama.cpp was built with, the GPU too old, "
    "or its memory too small (then lower runtime.gpu_layers); to build for this machine: "
    + BUILD_COMMAND
)


def gpu_layers(runtime: RuntimeConfig) -> int:
    """Layers to put on the GPU: `runtime.gpu_layers`, or all of them (-1) if it is not set."""
    return _ALL_LAYERS if runtime.gpu_layers is None else runtime.gpu_layers


def _probe() -> Probe:
    return probe_cuda(libraries=ggml_libraries(), torch=has_torch_library("torch_cuda"))


def load(model: ModelConfig, runtime: RuntimeConfig, *, libraries: frozenset[str]) -> ModelRunner:
    """Load a model with the runner that is made for its kind.

    Args:
        model: a file or folder on this machine.
        runtime: how to run it.
        libraries: names of the ggml libraries of the installed llama.cpp.

    Raises:
        ModelLoadError: the model is damaged or too large, or what it needs is not installed.
    """
    choice = choose_runner(model, runtime, _DISTRIBUTION)
    if choice.runner == "torch":
        import inferflux_runner_torch

        return inferflux_runner_torch.load(model, runtime, device="cuda", details=choice.details)
    # The probe was content with torch alone; llama.cpp would compute on the processor.
    if "cuda" not in libraries:
        raise ModelLoadError(
            f"{model.path} is for llama.cpp, and {NO_BUILD}", hint=f"run: {BUILD_COMMAND}"
        )
    import inferflux_runner_llamacpp

    return inferflux_runner_llamacpp.load(
        model, runtime, gpu_layers=gpu_layers(runtime), details=choice.details
    )


def _load(model: ModelConfig, runtime: RuntimeConfig) -> ModelRunner:
    return load(model, runtime, libraries=ggml_libraries())


def _forget(model: ModelConfig) -> None:
    import inferflux_runner_llamacpp

    inferflux_runner_llamacpp.forget(model)


def _make_file(recipe: FileRecipe, report: Callable[[float], None]) -> None:
    import inferflux_runner_llamacpp

    inferflux_runner_llamacpp.make_file(recipe, report)


@hookimpl
def inferflux_backends() -> Iterable[BackendSpec]:
    """Declare `cuda`."""
    yield BackendSpec(
        name="cuda",
        summary="models on NVIDIA GPUs: GGUF with llama.cpp, safetensors with torch",
        probe=_probe,
        factory=_load,
        forget=_forget,
        make_file=_make_file,
        capabilities=model_formats(),
        crash_hint=_CRASH_HINT,
    )
