"""Executes GGUF models with llama.cpp, on whatever device the installed build supports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inferflux_runner_llamacpp.host import core_count

if TYPE_CHECKING:
    from inferflux_core.config.schema import ModelConfig, RuntimeConfig
    from inferflux_runner_llamacpp.encoder import EncoderRunner
    from inferflux_runner_llamacpp.runner import LlamaRunner

__all__ = ["forget", "load"]


def load(
    model: ModelConfig, runtime: RuntimeConfig, *, gpu_layers: int = 0
) -> LlamaRunner | EncoderRunner:
    """Load a GGUF file.

    Args:
        model: `path` is a file on this machine.
        runtime: limits and KV cache settings.
        gpu_layers: layers to put on the device; -1 is all of them.

    Raises:
        ModelLoadError: the file cannot be read or does not fit into memory.
    """
    # OpenMP binds the thread that loads it to one core, so the cores are counted before. And the
    # library may crash on a foreign CPU: it is loaded only where it is needed.
    threads = runtime.threads or core_count()
    from inferflux_runner_llamacpp.loading import load_runner

    return load_runner(model, runtime, threads=threads, gpu_layers=gpu_layers)


def forget(model: ModelConfig) -> None:
    """Forget what was measured about a model on this machine, so that loading it measures again."""
    assert model.path is not None
    from inferflux_runner_llamacpp.measurements import Measurements

    Measurements(Path(model.path)).forget()
