"""Executes models in safetensors, and GGUF files, with torch, on any device it supports."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from inferflux_core.processors import use_all_cores

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_runner_torch.encoder import EncoderRunner
    from inferflux_runner_torch.runner import TorchRunner

__all__ = ["check_gguf", "kernels", "load"]

_SPINS: Final = "10000"
"""A fraction of a millisecond: longer than from one operation to the next, and shorter than a time slice."""


def kernels() -> str:
    """Which kernels of ours this processor runs: measurements with others do not hold. Imports no torch."""
    if importlib.util.find_spec("inferflux_kernels_cpu") is None:
        return "no kernels"
    import inferflux_kernels_cpu

    names = inferflux_kernels_cpu.usable()
    return f"kernels {names[0]} {inferflux_kernels_cpu.VERSION}" if names else "no kernels"


def check_gguf(path: Path) -> None:
    """See whether a GGUF file is of a kind that `load` takes. Reads no weights, and imports no torch.

    Raises:
        ModelLoadError: it is not, or is damaged.
    """
    from inferflux_gguf.contents import open_gguf
    from inferflux_gguf.to_folder.config import make_config

    make_config(open_gguf(path))


def load(
    model: ModelConfig,
    runtime: RuntimeConfig,
    *,
    device: str = "cpu",
    details: Mapping[str, str] | None = None,
) -> TorchRunner | EncoderRunner:
    """Load a model.

    Args:
        model: `path` is a folder on this machine, as Hugging Face lays it out, or a GGUF file.
        runtime: limits and types.
        device: `cpu`, `cuda` (which is also what ROCm is called in torch) or `mps`.
        details: to show among the runner's own.

    Raises:
        ModelLoadError: the model is damaged, of a family that is not known, or too large for this machine,
            or the configuration asks for what torch does not do.
    """
    use_all_cores()
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads at a barrier would spin for milliseconds, and on a busy machine keep those from running that
        # they wait for. The library that reads this is loaded with torch.
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    from inferflux_runner_torch.loading import load_runner

    assert model.path is not None
    return load_runner(Path(model.path), runtime, device, details or {})
