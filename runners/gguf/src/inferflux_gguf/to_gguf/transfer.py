"""Which stored tensor becomes which of the GGUF file, and how its numbers are changed on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType
from gguf.tensor_mapping import TensorNameMap

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.safetensors_file import StoredTensor
from inferflux_gguf.to_gguf.families import Weight

__all__ = ["Transfer", "plan_transfers"]

_TYPES: Final = {
    "F32": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}
_COMPUTED: Final = re.compile(r".*\.rotary_emb\.inv_freq|lm_head\.weight")
"""Tensors that follow from the config, or from others: a tied output was stored twice."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A tensor on its way.

    Attributes:
        name: in the GGUF file.
        stored: where it is now.
        weight: what it is.
    """

    name: str
    stored: StoredTensor
    weight: Weight

    @property
    def type(self) -> GGMLQuantizationType:
        """Of its numbers in the GGUF file: llama.cpp wants vectors in F32, and matrices stay as they are."""
        return _TYPES[self.stored.dtype] if len(self.weight.shape) > 1 else GGMLQuantizationType.F32

    def words(self) -> npt.NDArray[Any]:
        """Its numbers, in `weight.shape`; those that stay as they are, still mapped."""
        words = self.stored.words()
        if self.weight.heads:
            words = _interleave(words, self.weight.heads)
        if len(self.weight.shape) == 1:
            return _as_floats(words, self.stored.dtype) + np.float32(self.weight.shift)
        return words


def plan_transfers(
    weights: Iterator[Weight], stored: dict[str, StoredTensor], names: TensorNameMap
) -> list[Transfer]:
    """What is to be written, in its order.

    Raises:
        ModelLoadError: a tensor is missing, of another shape or type, or none of the model's.
    """
    transfers = []
    for weight in weights:
        tensor = stored.get(weight.name)
        if tensor is None:
            raise ModelLoadError(
                f"the tensor {weight.name!r} is missing",
                hint="upload all files of the model, as its authors published them",
            )
        if tensor.shape != weight.shape:
            raise ModelLoadError(
                f"the tensor {weight.name!r} has the shape {list(tensor.shape)}, "
                f"and config.json wants {list(weight.shape)}",
                hint="config.json and the weights must be of the same model",
            )
        if tensor.dtype not in _TYPES:
            raise ModelLoadError(
                f"the tensor {weight.name!r} has the type {tensor.dtype}",
                hint=f"only weights in {', '.join(_TYPES)} can be converted",
            )
        name = names.get_name(weight.name, try_suffixes=(".weight", ".bias"))
        assert name is not None
        transfers.append(Transfer(name, tensor, weight))
    known = {transfer.stored.name for transfer in transfers}
    for name in stored:
        if name not in known and not _COMPUTED.fullmatch(name):
            raise ModelLoadError(
                f"the tensor {name[:200]!r} is none of the model's that config.json describes",
                hint="a model with other layers than its family's cannot be converted",
            )
    return transfers


def _interleave(words: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Move rows `i` and `i + head / 2` of each head beside each other."""
    halves = words.reshape(heads, 2, -1, *words.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(words.shape)


def _as_floats(words: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "BF16":
        # The upper half of a float32.
        return (words.astype("<u4") << np.uint32(16)).view("<f4")
    return words.view("<f2" if dtype == "F16" else "<f4").astype("<f4")
