"""Which tensor of a GGUF file becomes which of the folder, and how its numbers are changed on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf.tensor_mapping import get_tensor_name_map

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.fields import Fields
from inferflux_gguf.contents import Contents, GGUFTensor
from inferflux_gguf.to_gguf.dimensions import read_dimensions
from inferflux_gguf.to_gguf.families import Weight, family_of, weights_of
from inferflux_gguf.to_gguf.long_rope import LONG, SHORT
from inferflux_gguf.to_gguf.rope import DIVISORS

__all__ = ["GGUFWeight", "find_weights"]

_CHUNK: Final = 1 << 20
"""Elements that are expanded at a time: what fits into caches is expanded the fastest."""


@dataclass(frozen=True, slots=True)
class GGUFWeight:
    """A weight of the folder, as it lies in the GGUF file.

    Attributes:
        weight: what it is, by Hugging Face's name.
        tensor: where it is.
    """

    weight: Weight
    tensor: GGUFTensor

    def chunks(self) -> Iterator[npt.NDArray[np.float32]]:
        """Its numbers in the order of `weight.shape`, some rows at a time, `[rows, columns]` or `[elements]`.

        Raises:
            ModelLoadError: their type cannot be expanded, or they hold what is no number.
        """
        raw, weight = self.tensor.raw(), self.weight
        order = _order(weight)
        if len(weight.shape) == 1:
            numbers = self._finite(raw).reshape(-1)
            yield (numbers if order is None else numbers[order]) - np.float32(weight.shift)
            return
        step = max(1, _CHUNK // weight.shape[1])
        for start in range(0, weight.shape[0], step):
            rows: Any = slice(start, start + step)
            # Quantization never spans rows, so they change places before they are expanded.
            yield self._finite(raw[rows if order is None else order[rows]])

    def _finite(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        numbers = self.tensor.floats(raw)
        if not np.isfinite(numbers).all():
            raise ModelLoadError(
                f"the tensor {self.tensor.stored.name!r} holds numbers that are infinite or none",
                hint="the file is damaged: download it again",
            )
        return numbers


def find_weights(contents: Contents, config: dict[str, Any]) -> list[GGUFWeight]:
    """All weights of the model that a config describes, in the order of its layers.

    Raises:
        ModelLoadError: the config is of no known model; a tensor is missing, of another shape, or none
            of the model's.
    """
    fields = Fields("the model's description", config)
    family, dims = family_of(fields), read_dimensions(fields)
    names = get_tensor_name_map(family.arch, dims.layers)
    found = []
    for weight in weights_of(family, dims, fields):
        name = names.get_name(weight.name, try_suffixes=(".weight", ".bias"))
        assert name is not None
        tensor = contents.tensors.get(name)
        if tensor is None:
            raise contents.error(f"the tensor {name!r} is missing")
        if tensor.shape != weight.shape:
            raise contents.error(
                f"the tensor {name!r} has the shape {list(tensor.shape)}, and its metadata want "
                f"{list(weight.shape)}"
            )
        found.append(GGUFWeight(weight, tensor))
    known = {one.tensor.stored.name for one in found} | {DIVISORS, LONG, SHORT}
    if foreign := sorted(contents.tensors.keys() - known):
        raise contents.error(
            f"the tensor {foreign[0]!r} is none of an ordinary {contents.architecture!r} model's",
            hint="a model with other layers than its family's cannot be turned into safetensors",
        )
    return found


def _order(weight: Weight) -> npt.NDArray[np.intp] | None:
    """Where each row lies: llama.cpp has those that are rotated together beside each other.

    Hugging Face has them half a head apart.
    """
    if not weight.heads:
        return None
    rows = np.arange(weight.shape[0]).reshape(weight.heads, -1, 2)
    return rows.swapaxes(1, 2).reshape(-1)
