"""Torch runners of model folders that compute as exactly as they can: keys and values in float32."""

from __future__ import annotations

from pathlib import Path

import torch

from inferflux_core.engine.runner import RunnerCapabilities
from inferflux_core.models.folder.fields import read_fields
from inferflux_core.models.folder.tokenizing import load_tokenizer
from inferflux_runner_torch.adapters import Adapters
from inferflux_runner_torch.cache import PagedCache
from inferflux_runner_torch.checkpoint import FolderCheckpoint
from inferflux_runner_torch.decoder import (
    Decoder,
    check_weights,
    linears_of,
    load_weights,
    read_config,
)
from inferflux_runner_torch.embedding import DecoderEmbedder
from inferflux_runner_torch.ops import Ops, TorchOps
from inferflux_runner_torch.runner import TorchRunner
from inferflux_runner_torch.sentences import SentenceSettings

CPU = torch.device("cpu")


def exact_runner(
    folder: Path,
    *,
    slots: int = 4,
    capacity: int = 256,
    max_rows: int = 512,
    ops: Ops | None = None,
    block_size: int = 64,
    sentences: SentenceSettings | None = None,
) -> tuple[TorchRunner, PagedCache]:
    """A runner, and the cache within it."""
    config = read_config(read_fields(folder / "config.json", required=True))
    checkpoint = FolderCheckpoint(folder)
    check_weights(config, checkpoint)
    used: Ops = ops or TorchOps(CPU, torch.float32, torch.float32, block_size)
    weights = load_weights(config, checkpoint, used, "f32", lambda _: None)
    cache = PagedCache(
        used,
        layers=config.layers,
        heads=config.heads_kv,
        head=config.head,
        slots=slots,
        capacity=capacity,
    )
    capabilities = RunnerCapabilities(
        vocab_size=config.vocab,
        max_num_seqs=slots,
        max_model_len=capacity,
        max_draft_tokens=8,
        exports_state=True,
        shares_prefixes=True,
        hosts_adapters=True,
        device="cpu",
    )
    decoder = Decoder(config, weights, used, capacity)
    runner = TorchRunner(
        decoder,
        used,
        cache,
        capabilities,
        load_tokenizer(folder, config.vocab),
        adapters=Adapters(linears_of(config), torch.float32, CPU),
        embedder=DecoderEmbedder(
            decoder,
            config,
            used,
            sentences or SentenceSettings(),
            max_tokens=capacity,
            kv_bytes_per_token=2 * config.layers * config.heads_kv * config.head * 4,
        ),
        max_rows=max_rows,
    )
    return runner, cache
