"""What rounding weights costs: perplexity of a real model on this project's own documents."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from support.hf_folders import smollm2_folder

from inferflux_core.engine.runner import Work
from inferflux_core.models.folder.fields import read_fields
from inferflux_core.models.folder.tokenizing import load_tokenizer
from inferflux_runner_torch.cache import PagedCache
from inferflux_runner_torch.checkpoint import FolderCheckpoint
from inferflux_runner_torch.decoder import Decoder, load_weights, read_config
from inferflux_runner_torch.ops import Ops, Precision, TorchOps

kernels = pytest.importorskip("inferflux_kernels_cpu")

TEXT = Path(__file__).parents[3] / "docs" / "architecture.md"
LENGTH = 320
PARTS = 4
MOST = 1.01
"""Times the perplexity in float32."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smollm2_folder(tmp_path_factory.mktemp("precisions") / "smollm2", "BF16")


def perplexity(folder: Path, ops: Ops, precision: Precision) -> float:
    config = read_config(read_fields(folder / "config.json", required=True))
    weights = load_weights(config, FolderCheckpoint(folder), ops, precision, lambda _: None)
    decoder = Decoder(config, weights, ops, LENGTH)
    cache = PagedCache(
        ops,
        layers=config.layers,
        heads=config.heads_kv,
        head=config.head,
        slots=1,
        capacity=LENGTH,
    )
    tokenizer = load_tokenizer(folder, config.vocab)
    ids = tokenizer.encode(TEXT.read_text("utf-8"), add_special=True, parse_special=False)
    losses = []
    for start in range(0, PARTS * LENGTH, LENGTH):
        part = ids[start : start + LENGTH]
        assert len(part) == LENGTH
        with torch.inference_mode():
            rows = cache.append([Work(0, 0, part)])
            logits = decoder.logits(decoder.hidden(torch.tensor(part), rows, cache.layers))
            losses.append(torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(part[1:])))
        cache.release(0)
    return math.exp(torch.stack(losses).mean().item())


@pytest.mark.skipif(kernels.why_not() is not None, reason=str(kernels.why_not()))
def test_every_precision_predicts_as_well_as_float32(folder: Path) -> None:
    from inferflux_runner_torch.ops.native import NativeOps

    exact = perplexity(folder, TorchOps(torch.device("cpu"), torch.float32, torch.float32), "f32")
    assert 5 < exact < 500
    precisions: tuple[Precision, ...] = ("bf16", "int8")
    for precision in precisions:
        found = perplexity(folder, NativeOps(), precision)
        print(
            f"\n{precision}: perplexity {found:.3f}, {found / exact:.5f} of float32's {exact:.3f}"
        )
        assert found < MOST * exact
