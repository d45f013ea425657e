"""A model and a context of llama.cpp, ready to run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import llama_cpp

from inferflux_core.engine.runner import RunnerCapabilities
from inferflux_core.errors import ModelLoadError
from inferflux_runner_llamacpp.memory import ContextSize, drop_zero_pages
from inferflux_runner_llamacpp.native_log import captured_log, cause
from inferflux_runner_llamacpp.runner import LlamaRunner
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer

__all__ = ["KV_TYPE_BYTES", "ContextSettings", "open_runner"]

BATCH_SIZE: Final = 512
PREFILL_QUANTUM: Final = 64
"""Below 64 rows, and off multiples of it, the CPU's attention falls back to a slower kernel."""

_BF16: Final = 30  # GGML_TYPE_BF16; the binding has no name for it
_KV_TYPES: Final = {"f16": llama_cpp.GGML_TYPE_F16, "bf16": _BF16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
KV_TYPE_BYTES: Final = {"f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSettings:
    """How to run a model.

    Attributes:
        size: sequences and their length.
        kv_type: `f16`, `bf16` or `q8_0`.
        kv_bytes_per_token: over all layers.
        threads: compute threads.
        gpu_layers: layers on the device; -1 is all.
        details: what to report beside that.
    """

    size: ContextSize
    kv_type: str
    kv_bytes_per_token: int
    threads: int
    gpu_layers: int
    details: dict[str, str]


def open_runner(path: Path, settings: ContextSettings) -> LlamaRunner:
    """Load a checked GGUF file and make a context for it.

    Raises:
        ModelLoadError: llama.cpp refuses.
    """
    with captured_log() as log:
        llama_cpp.llama_backend_init()
        model = _load_model(path, settings.gpu_layers, log)
        context = _make_context(model, settings, log)
    drop_zero_pages()
    tokenizer = LlamaTokenizer(model)
    on_cpu = settings.gpu_layers == 0
    capabilities = RunnerCapabilities(
        vocab_size=tokenizer.vocab_size,
        max_num_seqs=settings.size.max_num_seqs,
        max_model_len=llama_cpp.llama_n_ctx_seq(context),
        prefill_quantum=PREFILL_QUANTUM,
        device=f"CPU, {settings.threads} threads" if on_cpu else "llama.cpp device",
        kv_bytes_per_token=settings.kv_bytes_per_token,
        details={
            "runner": "llamacpp",
            "kv_cache_type": settings.kv_type,
            "threads": str(settings.threads),
            **settings.details,
        },
    )
    return LlamaRunner(model, context, capabilities, tokenizer, BATCH_SIZE)


def _load_model(path: Path, gpu_layers: int, log: list[str]) -> llama_cpp.llama_model_p:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    model: llama_cpp.llama_model_p = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelLoadError(
            f"llama.cpp cannot load {path.name}: {cause(log)}",
            hint="the architecture may be newer than the installed llama-cpp-python",
        )
    return model


def _make_context(
    model: llama_cpp.llama_model_p, settings: ContextSettings, log: list[str]
) -> llama_cpp.llama_context_p:
    size = settings.size
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = size.max_model_len * size.max_num_seqs
    params.n_batch = params.n_ubatch = BATCH_SIZE
    params.n_seq_max = size.max_num_seqs
    # Left at zero it means n_batch, and a logits buffer for as many rows.
    params.n_outputs_max = size.max_num_seqs
    params.n_threads = params.n_threads_batch = settings.threads
    params.type_k = params.type_v = _KV_TYPES[settings.kv_type]
    # Only with flash attention may values be quantized, and only then are they stored by token.
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.kv_unified = False
    params.no_perf = True
    context: llama_cpp.llama_context_p = llama_cpp.llama_init_from_model(model, params)
    if not context:
        llama_cpp.llama_model_free(model)
        raise ModelLoadError(
            f"llama.cpp cannot make a context of {size.max_num_seqs} sequences of "
            f"{size.max_model_len} tokens: {cause(log)}",
            hint="lower `runtime.max_model_len` or `runtime.max_num_seqs`",
        )
    return context
