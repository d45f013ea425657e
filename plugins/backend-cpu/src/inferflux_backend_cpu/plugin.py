"""Declares the `cpu` backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from inferflux_backend_cpu.comparison import compared
from inferflux_backend_cpu.probing import probe_cpu
from inferflux_backend_cpu.trial import try_runner
from inferflux_core.backends.runner_choice import choose_runner, model_formats
from inferflux_core.hookspecs import hookimpl
from inferflux_core.processors import core_count
from inferflux_core.specs import BackendSpec, FileRecipe, Probe
from inferflux_runner_llamacpp.library import build_command, ggml_libraries

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_core.engine.runner import ModelRunner

__all__ = ["inferflux_backends"]

_DISTRIBUTION = "inferflux-backend-cpu"
_CRASH_HINT = (
    "the installed llama.cpp was built for another CPU, or by GCC 12, which miscompiles its AMX "
    "set-up; build it again for this machine: "
    + build_command('-DCMAKE_CXX_FLAGS="-fno-tree-dse -fno-dse"')
)


def _probe() -> Probe:
    return probe_cpu(libraries=ggml_libraries(), cores=core_count(), cpuinfo=Path("/proc/cpuinfo"))


def _load(model: ModelConfig, runtime: RuntimeConfig) -> ModelRunner:
    choice = compared(
        model, runtime, lambda runner: try_runner(runner, model, runtime)
    ) or choose_runner(model, runtime, _DISTRIBUTION)
    if choice.runner == "torch":
        import inferflux_runner_torch

        return inferflux_runner_torch.load(model, runtime, device="cpu", details=choice.details)
    import inferflux_runner_llamacpp

    return inferflux_runner_llamacpp.load(model, runtime, gpu_layers=0, details=choice.details)


def _forget(model: ModelConfig) -> None:
    import inferflux_runner_llamacpp

    inferflux_runner_llamacpp.forget(model)


def _make_file(recipe: FileRecipe, report: Callable[[float], None]) -> None:
    import inferflux_runner_llamacpp

    inferflux_runner_llamacpp.make_file(recipe, report)


@hookimpl
def inferflux_backends() -> Iterable[BackendSpec]:
    """Declare `cpu`."""
    yield BackendSpec(
        name="cpu",
        summary="models on the processor: GGUF with llama.cpp, safetensors with torch",
        probe=_probe,
        factory=_load,
        forget=_forget,
        make_file=_make_file,
        capabilities=model_formats(),
        # Threads that wander between cores make the others spin at every barrier.
        environment={
            "OMP_PROC_BIND": "true",
            "OMP_PLACES": "cores",
            # Without huge pages, clearing a large KV cache takes seconds of page faults.
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        },
        crash_hint=_CRASH_HINT,
    )
