"""From a folder with an encoder and a configuration to a runner."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.engine.embedding_passes import input_limit
from inferflux_core.engine.runner import RunnerCapabilities
from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.tokenizing import HfTokenizer, load_tokenizer
from inferflux_runner_torch.devices import Computation, choose_computation
from inferflux_runner_torch.encoder import (
    Encoder,
    EncoderConfig,
    EncoderRunner,
    check_weights,
    load_weights,
    read_config,
)
from inferflux_runner_torch.sentences import SentenceSettings, read_sentence_settings
from inferflux_runner_torch.stored import FolderModel

__all__ = ["load_encoder"]


def load_encoder(
    path: Path,
    stored: FolderModel,
    runtime: RuntimeConfig,
    device: str,
    details: Mapping[str, str],
    progress: Callable[[float], None],
) -> EncoderRunner:
    """Load a model that only embeds or ranks; for the arguments, see `inferflux_runner_torch.load`.

    Raises:
        ModelLoadError: the model is damaged, of a family that is not known, or too large for this machine,
            or the configuration asks for what torch does not do.
    """
    config, checkpoint = read_config(stored.config), stored.checkpoint
    settings = SentenceSettings() if config.ranks else read_sentence_settings(path)
    max_tokens = input_limit(runtime.max_model_len, config.context, settings.max_tokens)
    check_weights(config, checkpoint)
    computation = choose_computation(device, checkpoint.dtype, config.head, runtime)
    tokenizer = load_tokenizer(path, config.vocab, generates=False)
    _check_pairs(config, tokenizer)
    _check_memory(stored, computation)
    weights = load_weights(config, checkpoint, computation.ops, computation.precision, progress)
    capabilities = RunnerCapabilities(
        vocab_size=config.vocab,
        max_num_seqs=1,
        max_model_len=max_tokens,
        embeds=True,
        ranks=config.ranks,
        generates=False,
        device=computation.device_name,
        details={
            "runner": "torch",
            "architecture": config.architecture,
            "pooling": "rank" if config.ranks else settings.pooling,
            "weights": computation.precision,
            "kernels": computation.kernels,
            "threads": str(torch.get_num_threads()),
            **details,
        },
    )
    return EncoderRunner(
        Encoder(config, weights, computation.ops),
        config,
        computation.ops,
        settings,
        capabilities,
        tokenizer,
    )


def _check_pairs(config: EncoderConfig, tokenizer: HfTokenizer) -> None:
    if config.ranks and tokenizer.pair_frame is None:
        raise ModelLoadError(
            "tokenizer.json does not say what comes between a query and a document",
            hint="load it with AutoTokenizer of transformers, and save it from there",
        )


def _check_memory(stored: FolderModel, computation: Computation) -> None:
    elements = sum(math.prod(shape) for shape in stored.checkpoint.shapes.values())
    # Most are packed; those that are only looked up stay as they are in the checkpoint.
    needed = elements * max(computation.weight_bytes, stored.checkpoint.dtype.itemsize)
    free = computation.free_memory()
    if needed > free:
        raise ModelLoadError(
            f"the model needs {needed / 2**20:,.0f} MiB for its weights, and only "
            f"{free / 2**20:,.0f} MiB of memory are free",
            hint="use a smaller model, or free memory",
        )
