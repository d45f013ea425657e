"""LoRA adapters as PEFT saves them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.hf_folders import write_json, write_safetensors

RANK = 4

Factors = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def drawn_factors(
    linears: Mapping[str, tuple[int, int]], *, seed: int, rank: int = RANK, scale: float = 1.0
) -> Factors:
    """Random factors, `[rank, inputs]` and `[outputs, rank]`, for linear layers with so many of each."""
    draw = np.random.default_rng(seed)
    return {
        name: (
            (draw.standard_normal((rank, inputs)) * scale).astype(np.float32),
            (draw.standard_normal((outputs, rank)) * scale).astype(np.float32),
        )
        for name, (inputs, outputs) in linears.items()
    }


def peft_folder(folder: Path, factors: Factors, dtype: str = "F32", **config: Any) -> Path:
    """Save an adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "bias": "none"}
    write_json(folder / "adapter_config.json", plain | config)
    tensors = {}
    for name, pair in factors.items():
        for half, factor in zip("AB", pair, strict=True):
            tensors[f"base_model.model.{name}.lora_{half}.weight"] = factor
    write_safetensors(folder / "adapter_model.safetensors", tensors, dtype)
    return folder
