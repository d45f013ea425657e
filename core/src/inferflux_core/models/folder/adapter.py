"""LoRA adapters as PEFT saves them: folders with two files that matter."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["ADAPTER_CONFIG", "ADAPTER_FILES", "ADAPTER_WEIGHTS", "is_adapter_folder"]

ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
ADAPTER_FILES: Final = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)


def is_adapter_folder(path: Path) -> bool:
    """Whether it is a folder with both files."""
    return all((path / name).is_file() for name in ADAPTER_FILES)
