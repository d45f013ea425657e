"""From a GGUF file and a configuration to a running context."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import llama_cpp

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import RunnerCapabilities
from inferflux_core.errors import ModelLoadError
from inferflux_runner_llamacpp.gguf_check import check_gguf
from inferflux_runner_llamacpp.memory import ContextSize, available_bytes, drop_zero_pages, fit
from inferflux_runner_llamacpp.runner import LlamaRunner
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer

__all__ = ["load_runner"]

_BATCH_SIZE = 512
_PREFILL_QUANTUM = 64
"""Below 64 rows, and off multiples of it, the CPU's attention falls back to a slower kernel."""

_GGML_TYPE_BF16 = 30  # the binding has no name for it
_KV_TYPES = {
    "f16": (llama_cpp.GGML_TYPE_F16, 2.0),
    "bf16": (_GGML_TYPE_BF16, 2.0),
    "q8_0": (llama_cpp.GGML_TYPE_Q8_0, 34 / 32),
}


def load_runner(config: ModelConfig, runtime: RuntimeConfig, *, gpu_layers: int) -> LlamaRunner:
    """Load a model and make a context for it.

    Raises:
        ModelLoadError: the file is damaged, not supported, or too large for this machine.
    """
    assert config.path is not None
    path = Path(config.path)
    summary = check_gguf(path)
    on_cpu = gpu_layers == 0
    if on_cpu and summary.file_size > available_bytes():
        raise ModelLoadError(
            f"{path.name} needs {_mib(summary.file_size)} and only {_mib(available_bytes())} "
            "of memory are free",
            hint="use a smaller model or quantization, or free memory",
        )
    with _captured_log() as log:
        llama_cpp.llama_backend_init()
        model = _load_model(path, gpu_layers, log)
        kv_type = _kv_type(runtime.kv_cache_type, on_cpu=on_cpu)
        type_id, type_bytes = _KV_TYPES[kv_type]
        kv_bytes = int(summary.kv_elements_per_token * type_bytes)
        size = fit(kv_bytes, llama_cpp.llama_model_n_ctx_train(model), runtime, check_memory=on_cpu)
        threads = runtime.threads or len(os.sched_getaffinity(0))
        context = _make_context(model, size, type_id, threads, log)
    drop_zero_pages()
    # From here on a callback into Python would cost more than what it reports.
    _silence()
    tokenizer = LlamaTokenizer(model)
    capabilities = RunnerCapabilities(
        vocab_size=tokenizer.vocab_size,
        max_num_seqs=size.max_num_seqs,
        max_model_len=llama_cpp.llama_n_ctx_seq(context),
        prefill_quantum=_PREFILL_QUANTUM,
        device=_device(on_cpu=on_cpu),
        kv_bytes_per_token=kv_bytes,
        details={
            "runner": "llamacpp",
            "kv_cache_type": kv_type,
            "threads": str(threads),
            "architecture": summary.architecture,
        },
    )
    return LlamaRunner(model, context, capabilities, tokenizer, _BATCH_SIZE)


def _load_model(path: Path, gpu_layers: int, log: list[str]) -> llama_cpp.llama_model_p:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelLoadError(
            f"llama.cpp cannot load {path.name}: {_cause(log)}",
            hint="the architecture may be newer than the installed llama-cpp-python",
        )
    return model


def _make_context(
    model: llama_cpp.llama_model_p, size: ContextSize, kv_type: int, threads: int, log: list[str]
) -> llama_cpp.llama_context_p:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = size.max_model_len * size.max_num_seqs
    params.n_batch = params.n_ubatch = _BATCH_SIZE
    params.n_seq_max = size.max_num_seqs
    # Left at zero it means n_batch, and a logits buffer for as many rows.
    params.n_outputs_max = size.max_num_seqs
    params.n_threads = params.n_threads_batch = threads
    params.type_k = params.type_v = kv_type
    # The layout that rules out quantized values and a simple state format is the one without it.
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.kv_unified = False
    params.no_perf = True
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelLoadError(
            f"llama.cpp cannot make a context of {size.max_num_seqs} sequences of "
            f"{size.max_model_len} tokens: {_cause(log)}",
            hint="lower `runtime.max_model_len` or `runtime.max_num_seqs`",
        )
    return context


def _kv_type(wanted: str, *, on_cpu: bool) -> str:
    if wanted != "auto":
        return wanted
    return "bf16" if on_cpu and "avx512_bf16" in _cpu_flags() else "f16"


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def _device(*, on_cpu: bool) -> str:
    if on_cpu:
        return f"CPU, {len(os.sched_getaffinity(0))} cores"
    return "llama.cpp offload"


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Collect llama.cpp's messages; they say why a load failed."""
    lines: list[str] = []

    @llama_cpp.llama_log_callback
    def callback(_level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        lines.append(text.decode("utf-8", "replace").strip())

    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield lines
    finally:
        _silence()


def _silence() -> None:
    # Any C function that ignores its arguments will do.
    nothing = ctypes.cast(ctypes.CDLL(None).getpid, llama_cpp.llama_log_callback)
    llama_cpp.llama_log_set(nothing, ctypes.c_void_p(0))


def _cause(log: list[str]) -> str:
    """The last lines that look like a reason."""
    reasons = [line for line in log if "error" in line.lower() or "fail" in line.lower()]
    return "; ".join(reasons[-2:]) or "it gave no reason"


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
