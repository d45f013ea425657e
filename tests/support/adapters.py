"""Small LoRA adapters, made from nothing: low rank, random, and repeatable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

# Of SmolLM2-135M: inputs and outputs of the weights that adapters usually change.
SMOLLM2: Mapping[str, tuple[int, int]] = {
    "attn_q": (576, 576),
    "attn_v": (576, 192),
    "ffn_down": (1536, 576),
}
RANK = 4


def make_adapter(
    path: Path,
    *,
    seed: int = 1,
    strength: float = 1.0,
    architecture: str = "llama",
    weights: Mapping[str, tuple[int, int]] = SMOLLM2,
    layers: Sequence[int] = (3, 10, 20),
    alpha: float = float(RANK),
) -> Path:
    """Write an adapter; with `strength` 0 it changes nothing, with 1 it changes greedy answers."""
    draw = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for layer in layers:
        for name, (inputs, outputs) in weights.items():
            a = draw.standard_normal((RANK, inputs)) / np.sqrt(inputs)
            b = draw.standard_normal((outputs, RANK)) * strength * 1.2
            add_factors(writer, f"blk.{layer}.{name}.weight", a, b)
    finish(writer)
    return path


def add_factors(
    writer: gguf.GGUFWriter, weight: str, a: NDArray[np.float64], b: NDArray[np.float64]
) -> None:
    writer.add_tensor(f"{weight}.lora_a", a.astype(np.float32))
    writer.add_tensor(f"{weight}.lora_b", b.astype(np.float32))


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
