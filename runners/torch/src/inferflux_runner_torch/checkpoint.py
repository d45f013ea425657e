"""Weights in the safetensors of a model folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.checkpoint import read_checkpoint

__all__ = ["FolderCheckpoint"]

_DTYPES: Final = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_BUFFERS: Final = ("embeddings.position_ids",)
"""Whole numbers that older checkpoints have beside their weights; they follow from the configuration."""

_BARE_DECODER: Final = "embed_tokens.weight"
"""Of decoders that were saved without what chooses tokens: embedding ones whose output is tied anyway."""


class FolderCheckpoint:
    """The tensors of a folder, mapped into memory.

    Args:
        folder: as Hugging Face lays it out.

    Raises:
        ModelLoadError: a file is missing or damaged, or a tensor of a type that is not known.
    """

    def __init__(self, folder: Path) -> None:
        self._tensors = {
            name: tensor
            for name, tensor in read_checkpoint(folder).items()
            if not name.endswith(_BUFFERS)
        }
        if _BARE_DECODER in self._tensors:
            self._tensors = {f"model.{name}": found for name, found in self._tensors.items()}
        for tensor in self._tensors.values():
            if tensor.dtype not in _DTYPES:
                raise ModelLoadError(
                    f"tensor {tensor.name[:200]!r} has the type {tensor.dtype}",
                    hint=f"the torch runner takes weights in {', '.join(_DTYPES)}",
                )
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}

    @property
    def files(self) -> list[Path]:
        """All files with tensors."""
        return sorted({tensor.path for tensor in self._tensors.values()})

    @property
    def quantized(self) -> bool:
        """Folders with quantized weights are refused."""
        return False

    @property
    def dtype(self) -> torch.dtype:
        """Of most numbers."""
        sizes: dict[str, int] = {}
        for tensor in self._tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
        return _DTYPES[max(sizes, key=lambda dtype: sizes[dtype])]

    def tensor(self, name: str) -> Tensor:
        """A tensor on the mapped file, which nobody may write to."""
        stored = self._tensors[name]
        dtype = _DTYPES[stored.dtype]
        # numpy knows no bfloat16, and torch few unsigned words.
        words = stored.words().view(f"<i{dtype.itemsize}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            return torch.from_numpy(words).view(dtype)
