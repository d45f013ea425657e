"""From a GGUF file and a configuration to a runner."""

from __future__ import annotations

from pathlib import Path

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.errors import ModelLoadError
from inferflux_runner_llamacpp.context import KV_TYPE_BYTES, ContextSettings, open_runner
from inferflux_runner_llamacpp.gguf_check import check_gguf
from inferflux_runner_llamacpp.host import cpu_flags
from inferflux_runner_llamacpp.memory import ContextSize, available_bytes, fit
from inferflux_runner_llamacpp.runner import LlamaRunner
from inferflux_runner_llamacpp.tuning import TRIAL_LEN, TRIAL_SEQS, choose_weights
from inferflux_runner_llamacpp.weights import can_expand, expand

__all__ = ["load_runner"]


def load_runner(
    config: ModelConfig, runtime: RuntimeConfig, *, threads: int, gpu_layers: int
) -> LlamaRunner:
    """Check a file, decide how to run it here, and load it.

    Raises:
        ModelLoadError: the file is damaged, not supported, or too large for this machine.
    """
    assert config.path is not None
    path = Path(config.path)
    summary = check_gguf(path)
    on_cpu = gpu_layers == 0
    free = available_bytes()
    if on_cpu and summary.file_size > free:
        raise ModelLoadError(
            f"{path.name} has {summary.file_size / 2**20:,.0f} MiB and only "
            f"{free / 2**20:,.0f} MiB of memory are free",
            hint="use a smaller model or quantization, or free memory",
        )
    kv_type = _kv_type(runtime.kv_cache_type, on_cpu=on_cpu)
    kv_bytes = int(summary.kv_elements_per_token * KV_TYPE_BYTES[kv_type])

    def settings(size: ContextSize, details: dict[str, str]) -> ContextSettings:
        return ContextSettings(
            size=size,
            kv_type=kv_type,
            kv_bytes_per_token=kv_bytes,
            threads=threads,
            gpu_layers=gpu_layers,
            details=details,
        )

    def trial(weights: str) -> LlamaRunner:
        file = _weights_file(path, weights, threads)
        return open_runner(file, settings(ContextSize(TRIAL_SEQS, TRIAL_LEN), {}))

    # First what may be refused, then what takes time.
    size = fit(kv_bytes, summary.context_length, runtime, check_memory=on_cpu)
    details = {"architecture": summary.architecture, "quantization": summary.quantization}
    weights: str = runtime.weights
    if weights == "auto":
        weights = "original"
        if on_cpu and can_expand(summary):
            weights, details["weights_choice"] = choose_weights(path, threads, trial)
    details["weights"] = weights
    return open_runner(_weights_file(path, weights, threads), settings(size, details))


def _weights_file(path: Path, weights: str, threads: int) -> Path:
    return path if weights == "original" else expand(path, weights, threads)


def _kv_type(wanted: str, *, on_cpu: bool) -> str:
    """Half precision of the kind that the processor multiplies."""
    if wanted != "auto":
        return wanted
    return "bf16" if on_cpu and "avx512_bf16" in cpu_flags() else "f16"
