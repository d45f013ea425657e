"""From a stored model and a configuration to a runner."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.engine.calibration import measure_cost
from inferflux_core.engine.context_size import ContextSize, fit
from inferflux_core.engine.embedding_passes import longest_input
from inferflux_core.engine.runner import RunnerCapabilities
from inferflux_core.errors import ModelLoadError
from inferflux_core.models.content import content_digest
from inferflux_core.models.folder.purpose import only_embeds
from inferflux_runner_torch.adapters import Adapters
from inferflux_runner_torch.cache import PagedCache
from inferflux_runner_torch.decoder import (
    Decoder,
    DecoderConfig,
    check_weights,
    linears_of,
    load_weights,
    read_config,
)
from inferflux_runner_torch.devices import Computation, choose_computation
from inferflux_runner_torch.embedding import DecoderEmbedder
from inferflux_runner_torch.encoder import EncoderRunner
from inferflux_runner_torch.encoder_loading import load_encoder
from inferflux_runner_torch.runner import TorchRunner
from inferflux_runner_torch.sentences import SentenceSettings, read_sentence_settings
from inferflux_runner_torch.stored import FolderModel, StoredCheckpoint, open_model

__all__ = ["load_runner"]

logger = logging.getLogger("inferflux.torch")

_MAX_DRAFT_TOKENS: Final = 8
_PREFILL_QUANTUM: Final = 64
_PIECE_FORMAT: Final = 1
"""Of exported states; see `TorchRunner.export_state`."""
_ALLOWED: Final[dict[str, tuple[object, ...]]] = {
    "flash_attention": ("auto", "on"),
    "kv_layout": ("auto",),
    "gpu_layers": (None,),
    "mps_layers": (None,),
}
"""What torch can do of what llama.cpp has a choice of."""


def load_runner(
    path: Path, runtime: RuntimeConfig, device: str, details: Mapping[str, str]
) -> TorchRunner | EncoderRunner:
    """Load a model; for the arguments, see `inferflux_runner_torch.load`.

    Raises:
        ModelLoadError: the model is damaged, of a family that is not known, or too large for this machine,
            or the configuration asks for what torch does not do.
    """
    _check_options(runtime)
    stored = open_model(path)
    progress = _Progress(path.name)
    if isinstance(stored, FolderModel) and only_embeds(stored.config):
        return load_encoder(path, stored, runtime, device, details, progress)
    config, checkpoint = read_config(stored.config), stored.checkpoint
    check_weights(config, checkpoint)
    computation = choose_computation(
        device, checkpoint.dtype, config.head, runtime, quantized=checkpoint.quantized
    )
    tokenizer = stored.tokenizer(config.vocab)
    settings = read_sentence_settings(path)
    size = _size(config, checkpoint, computation, runtime)
    weights = load_weights(config, checkpoint, computation.ops, computation.precision, progress)
    cache = PagedCache(
        computation.ops,
        layers=config.layers,
        heads=config.heads_kv,
        head=config.head,
        slots=size.max_num_seqs,
        capacity=size.max_model_len,
    )
    adapters = Adapters(linears_of(config), computation.ops.dtype, computation.ops.device)
    decoder = Decoder(config, weights, computation.ops, size.max_model_len)
    per_token = _kv_bytes_per_token(config, computation)
    embedder = DecoderEmbedder(
        decoder,
        config,
        computation.ops,
        settings,
        max_tokens=longest_input(size.max_model_len, per_token),
        kv_bytes_per_token=per_token,
    )
    return TorchRunner(
        decoder,
        computation.ops,
        cache,
        _capabilities(config, checkpoint, computation, size, settings, details),
        tokenizer,
        adapters=adapters,
        embedder=embedder,
        max_rows=runtime.max_num_batched_tokens,
        measure=measure_cost,
    )


def _check_options(runtime: RuntimeConfig) -> None:
    for key, allowed in _ALLOWED.items():
        if getattr(runtime, key) not in allowed:
            raise ModelLoadError(
                f"runtime.{key} is {getattr(runtime, key)!r}, and the torch runner has no such choice",
                hint="remove the key, or use a GGUF file, which llama.cpp runs",
            )


def _size(
    config: DecoderConfig,
    checkpoint: StoredCheckpoint,
    computation: Computation,
    runtime: RuntimeConfig,
) -> ContextSize:
    """Sequences and their length, once weights and cache are known to fit.

    Raises:
        ModelLoadError: they do not.
    """
    ops = computation.ops
    on_host = ops.device.type == "cpu"
    per_token = _kv_bytes_per_token(config, computation)
    size = fit(per_token, config.context, runtime, check_memory=on_host, page=ops.block_size)
    weights = _weight_bytes(config, checkpoint, computation)
    pages = -(-size.max_model_len // ops.block_size) * size.max_num_seqs
    cache = pages * ops.block_size * per_token
    free = computation.free_memory()
    if weights + cache > free:
        raise ModelLoadError(
            f"the model needs {weights / 2**20:,.0f} MiB for its weights and {cache / 2**20:,.0f} MiB for "
            f"{size.max_num_seqs} sequences of {size.max_model_len} tokens, and only "
            f"{free / 2**20:,.0f} MiB of memory are free",
            hint="use a smaller model, or lower `runtime.max_model_len` or `runtime.max_num_seqs`",
        )
    return size


def _weight_bytes(
    config: DecoderConfig, checkpoint: StoredCheckpoint, computation: Computation
) -> int:
    """Of packed weights; what is looked up stays as it is in the checkpoint."""
    embeddings = config.vocab * config.width
    packed = sum(math.prod(shape) for shape in checkpoint.shapes.values())
    if not config.tied:
        packed -= embeddings
    return packed * computation.weight_bytes + embeddings * checkpoint.dtype.itemsize


def _kv_bytes_per_token(config: DecoderConfig, computation: Computation) -> int:
    elements = 2 * config.layers * config.heads_kv * config.head
    return elements * computation.cache_dtype.itemsize


def _capabilities(
    config: DecoderConfig,
    checkpoint: StoredCheckpoint,
    computation: Computation,
    size: ContextSize,
    settings: SentenceSettings,
    details: Mapping[str, str],
) -> RunnerCapabilities:
    parts = (_PIECE_FORMAT, content_digest(checkpoint.files), torch.__version__, computation.name)
    return RunnerCapabilities(
        vocab_size=config.vocab,
        max_num_seqs=size.max_num_seqs,
        max_model_len=size.max_model_len,
        prefill_quantum=_PREFILL_QUANTUM,
        max_draft_tokens=_MAX_DRAFT_TOKENS,
        exports_state=True,
        shares_prefixes=True,
        state_fingerprint=hashlib.sha256(repr(parts).encode()).hexdigest(),
        hosts_adapters=True,
        device=computation.device_name,
        kv_bytes_per_token=_kv_bytes_per_token(config, computation),
        details={
            "runner": "torch",
            "architecture": config.architecture,
            "weights": computation.precision,
            "pooling": settings.pooling,
            "kv_cache_type": str(computation.cache_dtype).removeprefix("torch."),
            "kernels": computation.kernels,
            "threads": str(torch.get_num_threads()),
            **details,
        },
    )


class _Progress:
    """Tells the log of every quarter of the weights."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = 0

    def __call__(self, share: float) -> None:
        quarter = int(4 * share)
        if quarter > self._told:
            self._told = quarter
            logger.info("%s: %d %% of the weights are loaded", self._name, 25 * quarter)
