"""Which folders hold a model, and which of their files its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["is_model_folder", "weight_files"]

_SUFFIX: Final = ".safetensors"
_CONFIG: Final = "config.json"
_USUAL: Final = "model"


def is_model_folder(path: Path) -> bool:
    """Whether it is a folder with weights in safetensors, and what says how to run them."""
    return path.is_dir() and (path / _CONFIG).is_file() and bool(weight_files(path))


def weight_files(folder: Path) -> list[Path]:
    """The files with weights. Some folders hold them a second time, under other names than the usual ones."""
    files = sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.is_file())
    return [path for path in files if path.name.startswith(_USUAL)] or files
