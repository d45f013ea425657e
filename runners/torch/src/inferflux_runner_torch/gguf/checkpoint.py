"""Weights in a GGUF file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from gguf.constants import GGMLQuantizationType
from torch import Tensor

from inferflux_gguf.to_folder.weights import GGUFWeight

__all__ = ["GGUFCheckpoint"]

_DTYPES: Final = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}
_EXPANDED: Final = torch.bfloat16
"""What quantized weights become: it has room for all that they can be, in half the memory of float32."""


class GGUFCheckpoint:
    """The tensors of a file, expanded one by one as they are asked for.

    Args:
        weights: of the model, under Hugging Face's names.
    """

    def __init__(self, weights: Sequence[GGUFWeight]) -> None:
        self._weights = {one.weight.name: one for one in weights}
        self.shapes = {name: one.weight.shape for name, one in self._weights.items()}

    @property
    def files(self) -> list[Path]:
        """All files with tensors."""
        return sorted({one.tensor.path for one in self._weights.values()})

    @property
    def dtype(self) -> torch.dtype:
        """Of most numbers, once they are expanded."""
        sizes: Counter[torch.dtype] = Counter()
        for one in self._weights.values():
            sizes[_dtype_of(one)] += one.tensor.stored.elements
        return max(sizes, key=sizes.__getitem__)

    @property
    def quantized(self) -> bool:
        """Whether most numbers were quantized."""
        elements = [
            (one.tensor.stored.type, one.tensor.stored.elements) for one in self._weights.values()
        ]
        expanded = sum(count for kind, count in elements if kind not in _DTYPES)
        return 2 * expanded > sum(count for _, count in elements)

    def tensor(self, name: str) -> Tensor:
        """A tensor, expanded into memory of its own.

        Raises:
            ModelLoadError: its type cannot be expanded, or it holds numbers that are none.
        """
        one = self._weights[name]
        tensor = torch.empty(one.weight.shape, dtype=_dtype_of(one))
        start = 0
        for numbers in one.chunks():
            tensor[start : start + len(numbers)] = torch.from_numpy(numbers)
            start += len(numbers)
        return tensor


def _dtype_of(one: GGUFWeight) -> torch.dtype:
    return _DTYPES.get(one.tensor.stored.type, _EXPANDED)
