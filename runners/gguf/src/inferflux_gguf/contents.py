"""What a checked GGUF file holds: strings and numbers of any length, and weights."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf.quants
import numpy as np
import numpy.typing as npt
from gguf.constants import GGUFValueType

from inferflux_core.errors import ModelLoadError
from inferflux_gguf.check import check_gguf, read_gguf
from inferflux_gguf.cursor import U64
from inferflux_gguf.layout import Entry, Layout, Tensor
from inferflux_gguf.metadata import Metadata
from inferflux_gguf.split import all_parts

__all__ = ["Contents", "GGUFTensor", "open_gguf"]

_NUMBERS: Final = {
    GGUFValueType.INT32: "<i4",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "<u1",
}


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """A weight in its file.

    Attributes:
        path: the file, which may be a part of a split model.
        stored: its name, type and size.
        offset: of its first byte in the file.
    """

    path: Path
    stored: Tensor
    offset: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Outermost dimension first."""
        return self.stored.shape[::-1]

    def raw(self) -> npt.NDArray[np.uint8]:
        """Its bytes, `[rows, bytes of a row]`; mapped, not read."""
        rows = self.stored.elements // (self.stored.shape[0] if self.stored.shape else 1)
        size = self.stored.size
        mapped = np.memmap(self.path, np.uint8, "r", self.offset, size)
        return mapped.reshape(rows, size // rows)

    def floats(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Rows as they are in `raw`, as numbers, `[rows, elements of a row]`.

        Raises:
            ModelLoadError: their type cannot be expanded.
        """
        try:
            # As one long row: the library expands a few rows at a time, which takes twice as long.
            numbers: npt.NDArray[np.float32] = gguf.quants.dequantize(
                np.ascontiguousarray(raw).reshape(1, -1), self.stored.type
            )
        except NotImplementedError as error:
            raise ModelLoadError(
                f"{self.path.name}: tensor {self.stored.name!r} has the type "
                f"{self.stored.type.name}, which cannot be expanded",
                hint="use the model in another quantization, best F16 or BF16",
            ) from error
        return numbers.astype(np.float32, copy=False).reshape(len(raw), -1)


class Contents(Metadata):
    """A model's metadata with strings and arrays of any length, and its weights.

    Attributes:
        tensors: the weights of all parts, by llama.cpp's names.
    """

    def __init__(self, path: Path, layout: Layout, tensors: Mapping[str, GGUFTensor]) -> None:
        super().__init__(path, layout)
        self._path = path
        self.tensors = tensors

    def long_text(self, key: str) -> str:
        """A string of any length, or ""."""
        entry = self._entries.get(key)
        if entry is None or not self.has_text(key):
            return ""
        with self._path.open("rb") as file:
            file.seek(entry.start)
            (length,) = U64.unpack(file.read(U64.size))
            return self._decoded(key, file.read(length))

    def strings(self, key: str) -> list[str]:
        """An array of strings, empty if it is not there."""
        entry = self._array(key)
        if entry is None:
            return []
        if entry.type is not GGUFValueType.STRING:
            raise self.error(f"{key!r} must be an array of strings")
        found = []
        with (
            self._path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            position = entry.start
            for _ in range(entry.count or 0):
                start = position + U64.size
                position = start + U64.unpack_from(data, position)[0]
                found.append(self._decoded(key, data[start:position]))
        return found

    def numbers(self, key: str) -> npt.NDArray[Any]:
        """An array of numbers, empty if it is not there."""
        entry = self._array(key)
        if entry is None:
            return np.empty(0, np.int32)
        if entry.type not in _NUMBERS:
            raise self.error(f"{key!r} must be an array of numbers")
        return np.fromfile(self._path, _NUMBERS[entry.type], entry.count or 0, offset=entry.start)

    def _array(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.count is None:
            raise self.error(f"{key!r} must be an array")
        return entry

    def _decoded(self, key: str, text: bytes) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise self.error(f"{key!r} is not valid UTF-8") from None


def open_gguf(path: Path) -> Contents:
    """Check a GGUF file, and all parts of a split model, and open it.

    Raises:
        ModelLoadError: see `check_gguf`.
    """
    check_gguf(path)
    tensors: dict[str, GGUFTensor] = {}
    first: Layout | None = None
    for part in all_parts(path):
        layout, _ = read_gguf(part)
        first = first or layout
        for tensor in layout.tensors:
            tensors[tensor.name] = GGUFTensor(part, tensor, layout.data_offset + tensor.offset)
    assert first is not None
    return Contents(path, first, tensors)
