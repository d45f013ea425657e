"""Writing weights as safetensors, some rows at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inferflux_core.errors import ModelLoadError
from inferflux_gguf.to_folder.weights import GGUFWeight

__all__ = ["write_safetensors"]

_BYTES: Final = {"bf16": 2, "f16": 2, "f32": 4}
_ALIGNMENT: Final = 8


def write_safetensors(
    weights: Sequence[GGUFWeight], target: Path, dtype: str, report: Callable[[float], None]
) -> None:
    """Write a file; memory holds a few rows at a time.

    Args:
        weights: in the order of the file.
        target: is overwritten.
        dtype: bf16, f16 or f32.
        report: is called with the share that is done, from 0 to 1.

    Raises:
        ModelLoadError: weights cannot be expanded, or are too large for the type.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for one in weights:
        end = position + math.prod(one.weight.shape) * _BYTES[dtype]
        header[one.weight.name] = {
            "dtype": dtype.upper(),
            "shape": list(one.weight.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        begin = file.tell()
        for one in weights:
            for numbers in one.chunks():
                file.write(_words(one, numbers, dtype).data)
                report((file.tell() - begin) / position)


def _words(
    one: GGUFWeight, numbers: npt.NDArray[np.float32], dtype: str
) -> npt.NDArray[np.generic]:
    if dtype == "f32":
        return np.ascontiguousarray(numbers, "<f4")
    if dtype == "bf16":
        # The upper half of a float32, rounded to the nearest, and of two to the even.
        words = np.ascontiguousarray(numbers, "<f4").view("<u4")
        return ((words + np.uint32(0x7FFF) + ((words >> 16) & np.uint32(1))) >> 16).astype("<u2")
    with np.errstate(over="ignore"):
        halves = numbers.astype("<f2")
    if not np.isfinite(halves).all():
        raise ModelLoadError(
            f"the tensor {one.tensor.stored.name!r} holds numbers that are too large for f16",
            hint="choose --dtype bf16 or f32",
        )
    return halves
