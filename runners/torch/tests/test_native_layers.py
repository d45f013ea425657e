"""All layers in one call are, to the bit, the operations one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.decoder_families import FAMILIES
from support.hf_folders import tiny_folder
from torch import Tensor

from inferflux_core.engine.runner import Work
from inferflux_core.models.folder.fields import read_fields
from inferflux_runner_torch.cache import PagedCache
from inferflux_runner_torch.checkpoint import FolderCheckpoint
from inferflux_runner_torch.decoder import Decoder, load_weights, read_config
from inferflux_runner_torch.ops import Ops, Precision

kernels = pytest.importorskip("inferflux_kernels_cpu")
pytestmark = pytest.mark.skipif(kernels.why_not() is not None, reason=str(kernels.why_not()))

CAPACITY = 256
LONG = [(17 * i) % 1900 + 5 for i in range(150)]
SHORT = [(29 * i) % 1900 + 5 for i in range(40)]
PASSES = [
    [Work(0, 0, LONG[:70])],
    [Work(0, 70, LONG[70:71]), Work(2, 0, SHORT[:3])],
    [Work(2, 3, SHORT[3:]), Work(0, 71, LONG[71:])],
    [Work(0, 150, LONG[:1])],
]
"""A prompt across blocks, mixtures, and a single row."""


class OneByOne:
    """The same operations, of a class that `Decoder` does not know."""

    def __init__(self, ops: Ops) -> None:
        self._ops = ops

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)


def compute(folder: Path, ops: Ops, precision: Precision) -> list[Tensor]:
    """Hidden states of every pass, then keys and values of every layer."""
    config = read_config(read_fields(folder / "config.json", required=True))
    weights = load_weights(config, FolderCheckpoint(folder), ops, precision, lambda _: None)
    decoder = Decoder(config, weights, ops, CAPACITY)
    cache = PagedCache(
        ops,
        layers=config.layers,
        heads=config.heads_kv,
        head=config.head,
        slots=3,
        capacity=CAPACITY,
    )
    found = []
    with torch.inference_mode():
        for works in PASSES:
            rows = cache.append(works)
            token_ids = torch.tensor([token for work in works for token in work.token_ids])
            found.append(decoder.hidden(token_ids, rows, cache.layers))
    return found + [stored for layer in cache.layers for stored in (layer.keys, layer.values)]


@pytest.mark.parametrize("precision", ["bf16", "f16", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_their_operations(family: str, precision: Precision, tmp_path: Path) -> None:
    from inferflux_runner_torch.ops.native import NativeOps

    architecture, changes = FAMILIES[family]
    folder = tiny_folder(tmp_path / "model", f"{architecture}ForCausalLM", dtype="F32", **changes)
    for instruction_set in kernels.usable():
        ops = NativeOps(instruction_set)
        together = compute(folder, ops, precision)
        apart = compute(folder, OneByOne(ops), precision)
        assert all(state.isfinite().all() for state in together)
        assert all(map(torch.equal, together, apart))
