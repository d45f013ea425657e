"""Is this file a LoRA adapter that fits the loaded model?

llama.cpp checks some of it, and ends the process over the rest: a number of another type than it expects,
matrices of a type it cannot multiply, a third dimension that differs. So an adapter is checked here first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from gguf.constants import GGMLQuantizationType, GGUFValueType

from inferflux_gguf.check import read_gguf
from inferflux_gguf.layout import Layout, Tensor
from inferflux_gguf.metadata import Metadata

__all__ = ["BaseModel", "check_adapter"]

_TYPES: Final = {
    GGMLQuantizationType.F32: "<u4",
    GGMLQuantizationType.F16: "<u2",
    GGMLQuantizationType.BF16: "<u2",
    GGMLQuantizationType.Q8_0: "<u2",
}
"""What llama.cpp's converter writes, and how wide the floating-point numbers in it are."""

_EXPONENTS: Final = {
    GGMLQuantizationType.F32: 0x7F800000,
    GGMLQuantizationType.F16: 0x7C00,
    GGMLQuantizationType.BF16: 0x7F80,
    GGMLQuantizationType.Q8_0: 0x7C00,
}
"""The bits that are all set in a number that is infinite or none."""

_ALPHA: Final = "adapter.lora.alpha"
_ALORA: Final = "adapter.alora.invocation_tokens"
_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"
_OTHER_MODEL: Final = "use an adapter that was made for this model"
_CONVERT: Final = "convert it with llama.cpp's `convert_lora_to_gguf.py`"
_Q8_0_WORDS: Final = 17


class BaseModel:
    """What an adapter has to fit.

    Args:
        architecture: llama.cpp's name of the model family.
        shapes: of the model's weights, innermost dimension first.
    """

    def __init__(self, architecture: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.architecture = architecture
        self.shapes = shapes


def check_adapter(path: Path, base: BaseModel) -> None:
    """Check a file before llama.cpp sees it; nobody may write to it meanwhile.

    Raises:
        ModelLoadError: it is no adapter, is damaged, or was made for another model.
    """
    layout, _ = read_gguf(path)
    metadata = Metadata(path, layout)
    _check_metadata(metadata, layout, base)
    pairs = _pairs(metadata, layout)
    for weight, (a, b) in pairs.items():
        _check_pair(metadata, weight, a, b, base)
    _check_numbers(path, metadata, layout)


def _check_metadata(metadata: Metadata, layout: Layout, base: BaseModel) -> None:
    for key, wanted in (("general.type", "adapter"), ("adapter.type", "lora")):
        found = metadata.text(key)
        if found != wanted:
            raise metadata.error(f"{key!r} is {found!r}, not {wanted!r}", hint=_CONVERT)
    if metadata.architecture != base.architecture:
        raise metadata.error(
            f"it was made for a model of the family {metadata.architecture!r}, "
            f"and this one is {base.architecture!r}",
            hint=_OTHER_MODEL,
        )
    if (alpha := layout.metadata.get(_ALPHA)) is not None:
        number = alpha.content
        # llama.cpp asserts the type.
        sound = isinstance(number, float) and math.isfinite(number)
        if alpha.type is not GGUFValueType.FLOAT32 or not sound:
            raise metadata.error(f"{_ALPHA!r} must be a finite FLOAT32", hint=_CONVERT)
    if _ALORA in layout.metadata:
        raise metadata.error(
            "it is an activated LoRA, which works from certain tokens on only",
            hint="use an ordinary LoRA adapter",
        )


def _pairs(metadata: Metadata, layout: Layout) -> dict[str, tuple[Tensor, Tensor]]:
    """The two factors of each weight's change, by the name of the weight."""
    halves: dict[str, dict[str, Tensor]] = {}
    for tensor in layout.tensors:
        weight, _, half = tensor.name.rpartition(".")
        if half not in ("lora_a", "lora_b") or ".lora_" in weight:
            # llama.cpp skips whole norm weights in silence, and the answers are not the adapter's.
            raise metadata.error(
                f"tensor {tensor.name!r} is no factor of a LoRA; only `.lora_a` and `.lora_b` are used",
                hint="train the adapter without `modules_to_save`",
            )
        if tensor.type not in _TYPES:
            raise metadata.error(
                f"tensor {tensor.name!r} has the type {tensor.type.name}", hint=_CONVERT
            )
        halves.setdefault(weight, {})[half] = tensor
    if not halves:
        raise metadata.error("it changes no weights", hint=_CONVERT)
    for weight, found in halves.items():
        if len(found) != 2:
            raise metadata.error(f"one of the two factors of {weight!r} is missing", hint=_CONVERT)
    return {weight: (found["lora_a"], found["lora_b"]) for weight, found in halves.items()}


def _check_pair(metadata: Metadata, weight: str, a: Tensor, b: Tensor, base: BaseModel) -> None:
    shape = base.shapes.get(weight)
    if shape is None:
        raise metadata.error(f"the model has no weight {weight!r}", hint=_OTHER_MODEL)
    if len(shape) < 2:
        raise metadata.error(
            f"it changes {weight!r}, which is no matrix", hint="train it on linear layers only"
        )
    if weight == _EMBEDDING and _OUTPUT not in base.shapes:
        # llama.cpp would multiply the factors the other way round for the output, and abort.
        raise metadata.error(
            "it changes the embeddings, which this model uses for its output too",
            hint="train the adapter without `embed_tokens`",
        )
    for tensor, wanted in zip((a, b), _factors(weight, shape, a), strict=True):
        if _padded(tensor.shape) != _padded(wanted):
            raise metadata.error(
                f"tensor {tensor.name!r} has the shape {list(tensor.shape)}, "
                f"and this model needs {list(wanted)}",
                hint=_OTHER_MODEL,
            )


def _factors(weight: str, shape: tuple[int, ...], a: Tensor) -> tuple[tuple[int, ...], ...]:
    """The shapes that both factors must have, given the rank of the first."""
    if weight == _EMBEDDING:
        # Rows of it are looked up, so it is stored the other way round.
        rank = a.shape[0]
        return (rank, shape[1]), (rank, shape[0])
    inputs, outputs, *rest = shape
    rank = _padded(a.shape)[1]
    return (inputs, rank, *rest), (rank, outputs, *rest)


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape + (1,) * (4 - len(shape))


def _check_numbers(path: Path, metadata: Metadata, layout: Layout) -> None:
    """One infinite factor would make every answer meaningless."""
    content = np.memmap(path, np.uint8, "r")
    for tensor in layout.tensors:
        start = layout.data_offset + tensor.offset
        words = content[start : start + tensor.size].view(_TYPES[tensor.type])
        if tensor.type is GGMLQuantizationType.Q8_0:
            words = words[::_Q8_0_WORDS]
        exponent = _EXPONENTS[tensor.type]
        if ((words & exponent) == exponent).any():
            raise metadata.error(
                f"tensor {tensor.name!r} holds numbers that are infinite or none",
                hint="its training went wrong, or the file is damaged",
            )
