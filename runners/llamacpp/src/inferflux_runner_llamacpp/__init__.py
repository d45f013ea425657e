"""Executes GGUF models with llama.cpp, on whatever device the installed build supports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from inferflux_core.processors import core_count, use_all_cores

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_core.specs import FileRecipe
    from inferflux_runner_llamacpp.encoder import EncoderRunner
    from inferflux_runner_llamacpp.runner import LlamaRunner

__all__ = ["forget", "load", "make_file"]


def load(
    model: ModelConfig,
    runtime: RuntimeConfig,
    *,
    gpu_layers: int = 0,
    details: Mapping[str, str] | None = None,
) -> LlamaRunner | EncoderRunner:
    """Load a GGUF file.

    Args:
        model: `path` is a file on this machine.
        runtime: limits and KV cache settings.
        gpu_layers: layers to put on the device; -1 is all of them.
        details: what else to report in the runner's capabilities.

    Raises:
        ModelLoadError: the file cannot be read or does not fit into memory.
    """
    use_all_cores()
    # The library may crash on a foreign CPU: it is loaded only where it is needed.
    from inferflux_runner_llamacpp.loading import load_runner

    return load_runner(
        model,
        runtime,
        threads=runtime.threads or core_count(),
        gpu_layers=gpu_layers,
        details=details or {},
    )


def forget(model: ModelConfig) -> None:
    """Forget what was measured about a model on this machine, so that loading it measures again."""
    assert model.path is not None
    from inferflux_runner_llamacpp.measurements import Measurements

    Measurements(Path(model.path)).forget()


def make_file(recipe: FileRecipe, report: Callable[[float], None]) -> None:
    """Convert a folder of safetensors to a GGUF file, or quantize a model, or both.

    Raises:
        ModelLoadError: it cannot be done.
    """
    from inferflux_gguf.to_gguf import convert
    from inferflux_runner_llamacpp.quantizing import check_kind, quantize

    source, kind = recipe.source, recipe.quantization
    if kind is not None:
        check_kind(kind)
    if not source.is_dir():
        quantize(source, recipe.target, kind or "F16", report)
    elif kind is None:
        convert(source, recipe.target, report)
    else:
        whole = recipe.target.with_suffix(".whole")
        try:
            convert(source, whole, lambda share: report(share / 2))
            quantize(whole, recipe.target, kind, lambda share: report((1 + share) / 2))
        finally:
            whole.unlink(missing_ok=True)
    report(1.0)
