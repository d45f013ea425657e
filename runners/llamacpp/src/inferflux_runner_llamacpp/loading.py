"""From a GGUF file and a configuration to a runner."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import llama_cpp

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.calibration import measure_cost
from inferflux_core.engine.context_size import ContextSize, fit
from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.embedding_passes import longest_input
from inferflux_core.engine.host_memory import available_memory
from inferflux_core.errors import ModelLoadError
from inferflux_core.models.content import content_digest
from inferflux_gguf.check import GGUFSummary, check_gguf, tensor_shapes
from inferflux_gguf.split import part_path
from inferflux_runner_llamacpp.adapter_check import BaseModel
from inferflux_runner_llamacpp.adapters import Adapters
from inferflux_runner_llamacpp.context import (
    KV_TYPE_BYTES,
    KV_TYPES,
    ContextSettings,
    open_runner,
)
from inferflux_runner_llamacpp.embedding import EmbedderSettings, LlamaEmbedder
from inferflux_runner_llamacpp.encoder import EncoderRunner, load_encoder
from inferflux_runner_llamacpp.identity import build_files
from inferflux_runner_llamacpp.measurements import Choice, Measurements
from inferflux_runner_llamacpp.memory import PAGE
from inferflux_runner_llamacpp.options import options_for
from inferflux_runner_llamacpp.runner import LlamaRunner
from inferflux_runner_llamacpp.tuning import tune
from inferflux_runner_llamacpp.workbench import Workbench

__all__ = ["load_runner"]

logger = logging.getLogger("inferflux.llamacpp")

_PIECE_FORMAT: Final = 1
"""Of exported states; see `StateCodec`."""


def load_runner(
    config: ModelConfig,
    runtime: RuntimeConfig,
    *,
    threads: int,
    gpu_layers: int,
    details: Mapping[str, str],
) -> LlamaRunner | EncoderRunner:
    """Check a file, decide how to run it here, and load it.

    Raises:
        ModelLoadError: the file is damaged, not supported, or too large for this machine.
    """
    assert config.path is not None
    path = Path(config.path)
    summary = check_gguf(path)
    on_cpu = gpu_layers == 0
    _check_memory(path, summary, on_cpu=on_cpu)
    if not summary.generates:
        return load_encoder(
            path, summary, runtime, threads=threads, gpu_layers=gpu_layers, details=details
        )
    options = options_for(summary, runtime, threads, on_cpu=on_cpu)
    # First what may be refused, then what takes time.
    _fit(summary, str(options["kv_type"][0]), runtime, on_cpu=on_cpu)
    measurements = Measurements(path)
    bench = Workbench(path, threads, gpu_layers)
    try:
        decision = measurements.decision(
            repr((gpu_layers, options)), lambda: tune(options, bench.open_trial)
        )
        choice = decision.choice
        logger.info("%s runs with %s", path.name, choice)
        size = _fit(summary, choice.kv_type, runtime, on_cpu=on_cpu)
        settings = ContextSettings(
            size=size,
            choice=choice,
            gpu_layers=gpu_layers,
            kv_bytes_per_token=_kv_bytes(summary, choice.kv_type),
            fingerprint=_fingerprint(path, summary, choice),
            details={
                "architecture": summary.architecture,
                "quantization": summary.quantization,
                **details,
                **_in_words(decision.table),
            },
        )
        model = bench.take(choice.weights)
    finally:
        bench.close()

    def measured(runner: LlamaRunner) -> CostModel:
        return measurements.cost(f"{choice}, {size}", partial(measure_cost, runner))

    def adapters(context: llama_cpp.llama_context_p) -> Adapters:
        return Adapters(
            model, context, lambda: BaseModel(summary.architecture, tensor_shapes(path))
        )

    embedder = _embedder(model, settings)
    return open_runner(model, settings, adapters=adapters, embedder=embedder, measure=measured)


def _embedder(model: llama_cpp.llama_model_p, settings: ContextSettings) -> LlamaEmbedder:
    """Models that were not made to embed do it best by the mean over all tokens."""
    return LlamaEmbedder(
        model,
        EmbedderSettings(
            pooling="mean",
            causal=True,
            max_tokens=longest_input(settings.size.max_model_len, settings.kv_bytes_per_token),
            threads=settings.choice.threads,
            kv_type=KV_TYPES[settings.choice.kv_type],
        ),
    )


def _check_memory(path: Path, summary: GGUFSummary, *, on_cpu: bool) -> None:
    free = available_memory()
    if on_cpu and summary.file_size > free:
        raise ModelLoadError(
            f"{path.name} has {summary.file_size / 2**20:,.0f} MiB and only "
            f"{free / 2**20:,.0f} MiB of memory are free",
            hint="use a smaller model or quantization, or free memory",
        )


def _fit(
    summary: GGUFSummary, kv_type: str, runtime: RuntimeConfig, *, on_cpu: bool
) -> ContextSize:
    kv_bytes = _kv_bytes(summary, kv_type)
    return fit(kv_bytes, summary.context_length, runtime, check_memory=on_cpu, page=PAGE)


def _kv_bytes(summary: GGUFSummary, kv_type: str) -> int:
    return int(summary.kv_elements_per_token * KV_TYPE_BYTES[kv_type])


def _fingerprint(path: Path, summary: GGUFSummary, choice: Choice) -> str:
    """What exported states depend on, by content: the same after a restart, and on a like machine."""
    count = summary.split_count
    files = [path, *(part_path(path, number, count) for number in range(1, count))]
    parts = (
        str(_PIECE_FORMAT),
        content_digest(files),
        content_digest(build_files()),
        choice.weights,
        choice.kv_type,
    )
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _in_words(table: dict[str, str]) -> dict[str, str]:
    """What was measured, as one detail: prompt token, step of one, step of eight."""
    if not table:
        return {}
    return {"measured": "; ".join(f"{choice}: {timings}" for choice, timings in table.items())}
