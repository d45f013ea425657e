"""The layout of a safetensors file: 8 bytes with the header's length, a JSON header, the data.

Read here and not by the `safetensors` package: numpy has no bfloat16, and what is needed is where the
words lie, so that they can be copied from one memory map to the other file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
import numpy.typing as npt

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.fields import parse_object

__all__ = ["StoredTensor", "read_header"]

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000  # the format's own limit
_MAX_DIMS: Final = 8
_MAX_DIM: Final = 1 << 48
_WIDTHS: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_DAMAGED: Final = "the file is damaged or incomplete: fetch it again"
_FOREIGN: Final = "only weights in safetensors are read; pickles could run code when opened"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        name: of the tensor.
        dtype: as safetensors call it, such as `BF16`.
        shape: outermost dimension first.
        path: its file.
        offset: of its first byte in the file.
        size: in bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size: int

    def words(self) -> npt.NDArray[Any]:
        """Its numbers in `shape`, as unsigned words of their width; mapped, not read."""
        content = np.memmap(self.path, np.uint8, "r", self.offset, self.size)
        return content.view(f"<u{_WIDTHS[self.dtype]}").reshape(self.shape)


def read_header(path: Path) -> list[StoredTensor]:
    """The tensors of a file, in the order of their data.

    Raises:
        ModelLoadError: it is no safetensors file, is cut off, or its tensors overlap.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES:
                raise ModelLoadError(f"{path.name} has {size} bytes only", hint=_DAMAGED)
            if length > _MAX_HEADER_BYTES:
                raise ModelLoadError(f"{path.name} is no safetensors file", hint=_FOREIGN)
            header = file.read(length)
    except OSError as error:
        raise ModelLoadError(f"{path.name} cannot be read: {error}", hint=_DAMAGED) from error
    if len(header) < length:
        raise ModelLoadError(f"{path.name} ends within its header", hint=_DAMAGED)
    tensors = _tensors(path, header, _LENGTH_BYTES + length)
    _check_coverage(path, tensors, _LENGTH_BYTES + length, size)
    return tensors


def _tensors(path: Path, header: bytes, start: int) -> list[StoredTensor]:
    what = f"the header of {path.name}"
    try:
        text = header.decode()
    except UnicodeDecodeError as error:
        raise ModelLoadError(f"{what} is no UTF-8", hint=_FOREIGN) from error
    entries = parse_object(what, text)
    entries.pop("__metadata__", None)
    found = [_tensor(path, name, entry, start) for name, entry in entries.items()]
    return sorted(found, key=lambda tensor: (tensor.offset, tensor.size))


def _tensor(path: Path, name: str, entry: Any, start: int) -> StoredTensor:
    problem = ModelLoadError(
        f"{path.name}: the description of tensor {name[:200]!r} is malformed", hint=_DAMAGED
    )
    if not isinstance(entry, dict):
        raise problem
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets):
        raise problem
    if len(shape) > _MAX_DIMS or len(offsets) != 2:
        raise problem
    width = _WIDTHS.get(dtype)
    if width is None:
        raise ModelLoadError(
            f"{path.name}: tensor {name[:200]!r} has the type {dtype[:50]!r}",
            hint="only weights in F32, F16 or BF16 can be converted",
        )
    begin, end = offsets
    if end - begin != math.prod(shape) * width:
        raise ModelLoadError(
            f"{path.name}: tensor {name[:200]!r} of the shape {shape} has {end - begin} bytes",
            hint=_DAMAGED,
        )
    return StoredTensor(name, dtype, tuple(shape), path, start + begin, end - begin)


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < _MAX_DIM for item in value
    )


def _check_coverage(path: Path, tensors: list[StoredTensor], start: int, size: int) -> None:
    """The data are the tensors', one behind the other: no holes, nothing twice."""
    position = start
    for tensor in tensors:
        if tensor.offset != position:
            raise ModelLoadError(
                f"{path.name}: tensor {tensor.name[:200]!r} overlaps another or leaves a hole",
                hint=_DAMAGED,
            )
        position += tensor.size
    if position != size:
        raise ModelLoadError(
            f"{path.name} has {size} bytes, and its header describes {position}", hint=_DAMAGED
        )
