"""A model and a context of llama.cpp, ready to run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import llama_cpp

from inferflux_core.engine.context_size import ContextSize
from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.runner import RunnerCapabilities
from inferflux_core.errors import ModelLoadError
from inferflux_runner_llamacpp.adapters import Adapters
from inferflux_runner_llamacpp.embedding import LlamaEmbedder
from inferflux_runner_llamacpp.measurements import Choice
from inferflux_runner_llamacpp.memory import drop_zero_pages, padded
from inferflux_runner_llamacpp.native_log import captured_log, cause
from inferflux_runner_llamacpp.runner import ContextLimits, LlamaRunner
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer

__all__ = ["KV_TYPE_BYTES", "ContextSettings", "open_model", "open_runner"]

BATCH_SIZE: Final = 512
PREFILL_QUANTUM: Final = 64
"""Below 64 rows, and off multiples of it, the CPU's attention falls back to a slower kernel."""
MAX_DRAFT_TOKENS: Final = 8
MAX_LOGITS: Final = 64
"""Rows of logits take memory twice, and 1 MiB each with the largest vocabularies."""

_BF16: Final = 30  # GGML_TYPE_BF16; the binding has no name for it
KV_TYPES: Final = {"f16": llama_cpp.GGML_TYPE_F16, "bf16": _BF16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
KV_TYPE_BYTES: Final = {"f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSettings:
    """How to run a model.

    Attributes:
        size: sequences and their length.
        choice: cache, threads and attention.
        gpu_layers: layers on the device; -1 is all.
        kv_bytes_per_token: over all layers.
        fingerprint: names the weights and the build, for states that outlive the process.
        details: what to report beside that.
    """

    size: ContextSize
    choice: Choice
    gpu_layers: int
    kv_bytes_per_token: int = 0
    fingerprint: str = ""
    details: dict[str, str] = field(default_factory=dict)


def open_model(path: Path, gpu_layers: int) -> llama_cpp.llama_model_p:
    """Load the weights of a checked GGUF file; contexts share them.

    Raises:
        ModelLoadError: llama.cpp refuses.
    """
    with captured_log() as log:
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        model: llama_cpp.llama_model_p = llama_cpp.llama_model_load_from_file(
            os.fsencode(path), params
        )
    if not model:
        raise ModelLoadError(
            f"llama.cpp cannot load {path.name}: {cause(log)}",
            hint="the architecture may be newer than the installed llama-cpp-python",
        )
    return model


def open_runner(
    model: llama_cpp.llama_model_p,
    settings: ContextSettings,
    *,
    adapters: Callable[[llama_cpp.llama_context_p], Adapters] | None = None,
    embedder: LlamaEmbedder | None = None,
    measure: Callable[[LlamaRunner], CostModel] | None = None,
    owns_model: bool = True,
) -> LlamaRunner:
    """Make a context for a model.

    Args:
        model: from `open_model`.
        settings: of the context.
        adapters: makes what holds the adapters of a context.
        embedder: see `LlamaRunner`.
        measure: see `LlamaRunner`.
        owns_model: see `LlamaRunner`.

    Raises:
        ModelLoadError: llama.cpp refuses; the model stays open.
    """
    seqs = settings.size.max_num_seqs
    window = llama_cpp.llama_model_n_swa(model)
    unbounded = not window or padded(settings.size.max_model_len) <= window
    # In a shared cache, cells outside a sequence's window are given to others.
    keeps_all = unbounded or not settings.choice.unified
    limits = ContextLimits(
        max_tokens=max(BATCH_SIZE, seqs),
        max_logits=max(seqs, min(MAX_LOGITS, seqs * (1 + MAX_DRAFT_TOKENS))),
        max_draft_tokens=MAX_DRAFT_TOKENS if keeps_all else 0,
        # Cells outside the window are kept, but left out of exported states.
        sliceable=unbounded,
    )
    with captured_log() as log:
        context = _make_context(model, settings, limits, log)
    drop_zero_pages()
    tokenizer = LlamaTokenizer(model)
    return LlamaRunner(
        model,
        context,
        _capabilities(context, settings, tokenizer),
        tokenizer,
        limits,
        adapters=adapters(context) if adapters else None,
        embedder=embedder,
        measure=measure,
        owns_model=owns_model,
    )


def _capabilities(
    context: llama_cpp.llama_context_p, settings: ContextSettings, tokenizer: LlamaTokenizer
) -> RunnerCapabilities:
    on_cpu = settings.gpu_layers == 0
    longest = llama_cpp.llama_n_ctx_seq(context)
    return RunnerCapabilities(
        vocab_size=tokenizer.vocab_size,
        max_num_seqs=settings.size.max_num_seqs,
        # Streams are rounded up to whole pages; a shared cache is everybody's.
        max_model_len=settings.size.max_model_len if settings.choice.unified else longest,
        prefill_quantum=PREFILL_QUANTUM,
        uniform_rows=True,
        contiguous_slots=not settings.choice.unified,
        state_fingerprint=settings.fingerprint,
        device=f"CPU, {settings.choice.threads} threads" if on_cpu else "llama.cpp device",
        kv_bytes_per_token=settings.kv_bytes_per_token,
        details={
            "runner": "llamacpp",
            "kv_cache_type": settings.choice.kv_type,
            "flash_attention": "on" if settings.choice.flash_attention else "off",
            "kv_layout": "unified" if settings.choice.unified else "streams",
            "threads": str(settings.choice.threads),
            "binding": os.environ.get("OMP_PLACES", "none") if on_cpu else "none",
            "weights": settings.choice.weights,
            "quantum": str(PREFILL_QUANTUM),
            **settings.details,
        },
    )


def _make_context(
    model: llama_cpp.llama_model_p,
    settings: ContextSettings,
    limits: ContextLimits,
    log: list[str],
) -> llama_cpp.llama_context_p:
    size = settings.size
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = size.max_model_len * size.max_num_seqs
    params.n_batch = params.n_ubatch = limits.max_tokens
    params.n_seq_max = size.max_num_seqs
    # Left at zero it means n_batch, and a logits buffer for as many rows.
    params.n_outputs_max = limits.max_logits
    params.n_threads = params.n_threads_batch = settings.choice.threads
    params.type_k = params.type_v = KV_TYPES[settings.choice.kv_type]
    params.flash_attn_type = (
        llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        if settings.choice.flash_attention
        else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    params.kv_unified = settings.choice.unified
    # Sliding windows keep all cells: tokens can be taken back, and prefixes shared.
    params.swa_full = True
    params.no_perf = True
    context: llama_cpp.llama_context_p = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelLoadError(
            f"llama.cpp cannot make a context of {size.max_num_seqs} sequences of "
            f"{size.max_model_len} tokens: {cause(log)}",
            hint="lower `runtime.max_model_len` or `runtime.max_num_seqs`",
        )
    return context
