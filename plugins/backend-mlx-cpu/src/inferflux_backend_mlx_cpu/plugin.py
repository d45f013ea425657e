"""Declares the `mlx-cpu` backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from inferflux_core.errors import ModelLoadError
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import BackendSpec, Probe
from inferflux_runner_mlx.installation import MlxInstallation, find_mlx

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_core.engine.runner import ModelRunner

__all__ = ["inferflux_backends", "probe_mlx_cpu"]

_INSTALL_COMMAND: Final = 'pip install "inferflux-backend-mlx-cpu[mlx]"'
_DEVICE: Final = "the processor"


def probe_mlx_cpu(installed: MlxInstallation) -> Probe:
    """Whether MLX is installed; it runs on every processor that it is built for."""
    if installed.missing:
        names = ", ".join(installed.missing)
        return Probe(available=False, reason=f"missing: {names}; run: {_INSTALL_COMMAND}")
    return Probe(
        available=True,
        reason="MLX on the processor: slow, and meant for tests; use `cpu` to serve",
        devices=(_DEVICE,),
    )


def _probe() -> Probe:
    return probe_mlx_cpu(find_mlx())


def _load(model: ModelConfig, runtime: RuntimeConfig) -> ModelRunner:
    if runtime.runner not in ("auto", "mlx"):
        raise ModelLoadError(
            f"runtime.runner is {runtime.runner}, and the backend mlx-cpu has no runner but mlx",
            hint="remove `runtime.runner`, or set `runtime.backend` to cpu",
        )
    import inferflux_runner_mlx

    return inferflux_runner_mlx.load(model, runtime, on_cpu=True)


@hookimpl
def inferflux_backends() -> Iterable[BackendSpec]:
    """Declare `mlx-cpu`."""
    yield BackendSpec(
        name="mlx-cpu",
        summary="model folders with MLX on the processor, for tests",
        probe=_probe,
        factory=_load,
        capabilities=frozenset({"safetensors"}),
        crash_hint="MLX was built for another processor; run: " + _INSTALL_COMMAND,
    )
