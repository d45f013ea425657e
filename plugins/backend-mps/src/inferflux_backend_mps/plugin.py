"""Declares the `mps` backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from inferflux_backend_mps.probing import BUILD_COMMAND, NO_METAL_BUILD, probe_mps
from inferflux_core.backends.runner_choice import choose_runner, model_formats
from inferflux_core.errors import ModelLoadError
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import BackendSpec, FileRecipe, Probe
from inferflux_runner_llamacpp.library import ggml_libraries
from inferflux_runner_mlx.installation import find_mlx

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_core.engine.runner import ModelRunner

__all__ = ["gpu_layers", "inferflux_backends", "load"]

_DISTRIBUTION = "inferflux-backend-mps"
_ALL_LAYERS = -1
_CRASH_HINT = (
    "llama.cpp may have been built for another macOS version, or memory is too small (then lower "
    "runtime.mps_layers); to build for this machine: " + BUILD_COMMAND
)


def gpu_layers(runtime: RuntimeConfig) -> int:
    """Layers to put on the GPU: `runtime.mps_layers`, or all of them (-1) if it is not set."""
    return _ALL_LAYERS if runtime.mps_layers is None else runtime.mps_layers


def _probe() -> Probe:
    return probe_mps(libraries=ggml_libraries(), mlx=find_mlx().metal)


def load(
    model: ModelConfig, runtime: RuntimeConfig, *, libraries: frozenset[str], mlx: bool
) -> ModelRunner:
    """Load a model with the runner that is made for its kind.

    Args:
        model: a file or folder on this machine.
        runtime: how to run it.
        libraries: names of the ggml libraries of the installed llama.cpp.
        mlx: whether MLX is installed, with its kernels for Metal.

    Raises:
        ModelLoadError: the model is damaged or too large, or what it needs is not installed.
    """
    choice = choose_runner(model, runtime, _DISTRIBUTION, mlx=mlx)
    if choice.runner == "mlx":
        import inferflux_runner_mlx

        return inferflux_runner_mlx.load(model, runtime, details=choice.details)
    if choice.runner == "torch":
        import inferflux_runner_torch

        return inferflux_runner_torch.load(model, runtime, device="mps", details=choice.details)
    # The probe was content with MLX alone; llama.cpp would compute on the processor.
    if "metal" not in libraries:
        raise ModelLoadError(
            f"{model.path} is for llama.cpp, and {NO_METAL_BUILD}", hint=f"run: {BUILD_COMMAND}"
        )
    import inferflux_runner_llamacpp

    return inferflux_runner_llamacpp.load(
        model, runtime, gpu_layers=gpu_layers(runtime), details=choice.details
    )


def _load(model: ModelConfig, runtime: RuntimeConfig) -> ModelRunner:
    return load(model, runtime, libraries=ggml_libraries(), mlx=find_mlx().metal)


def _forget(model: ModelConfig) -> None:
    import inferflux_runner_llamacpp

    inferflux_runner_llamacpp.forget(model)


def _make_file(recipe: FileRecipe, report: Callable[[float], None]) -> None:
    import inferflux_runner_llamacpp

    inferflux_runner_llamacpp.make_file(recipe, report)


@hookimpl
def inferflux_backends() -> Iterable[BackendSpec]:
    """Declare `mps`."""
    yield BackendSpec(
        name="mps",
        summary="models on Apple silicon: GGUF with llama.cpp, safetensors with MLX or torch",
        probe=_probe,
        factory=_load,
        forget=_forget,
        make_file=_make_file,
        capabilities=model_formats() | ({"safetensors"} if find_mlx().metal else set()),
        crash_hint=_CRASH_HINT,
    )
