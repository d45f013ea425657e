"""Executes model folders with MLX: safetensors as Hugging Face lays them out, or as mlx-lm converts them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_runner_mlx.runner import MlxRunner

__all__ = ["load"]


def load(
    model: ModelConfig,
    runtime: RuntimeConfig,
    *,
    on_cpu: bool = False,
    details: Mapping[str, str] | None = None,
) -> MlxRunner:
    """Load a model folder.

    Args:
        model: `path` is a folder on this machine.
        runtime: limits.
        on_cpu: compute on the processor, which is for tests; otherwise on the GPU of a Mac.
        details: more for the runner's capabilities.

    Raises:
        ModelLoadError: the folder cannot be read, or the model does not fit into memory.
    """
    assert model.path is not None
    from inferflux_runner_mlx.folder import read_folder
    from inferflux_runner_mlx.loading import load_runner

    return load_runner(read_folder(Path(model.path)), runtime, on_cpu=on_cpu, details=details or {})
