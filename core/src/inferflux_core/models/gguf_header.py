"""What a GGUF file says about itself, without its tensors. Format: ggml's docs/gguf.md, versions 2 and 3."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from inferflux_core.errors import ModelLoadError

__all__ = ["GGUFHeader", "Scalar", "read_gguf_header"]

Scalar = str | int | float | bool

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_MAX_ENTRIES: Final = 65_536
_MAX_TEXT: Final = 4 * 1024 * 1024
_MAX_ARRAY: Final = 16 * 1024 * 1024
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_TEXT: Final = 8
_ARRAY: Final = 9
_NUMBERS: Final = {
    code: struct.Struct("<" + form)
    for code, form in {
        **{0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"},
        **{10: "Q", 11: "q", 12: "d"},
    }.items()
}


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Metadata of a file.

    Attributes:
        metadata: values by key; arrays are left out, as they are long.
        arrays: number of elements of the arrays by key.
        num_parameters: elements of all tensors.
    """

    metadata: dict[str, Scalar]
    arrays: dict[str, int]
    num_parameters: int


def read_gguf_header(path: Path) -> GGUFHeader:
    """Read metadata and the shapes of tensors; both are bounded, whatever the file says.

    Raises:
        ModelLoadError: it is not a GGUF file, or damaged.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file).header()
    except (OSError, struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise ModelLoadError(
            f"{path.name} is not a GGUF file that can be read: {error}",
            hint="see that it was downloaded completely",
        ) from error


class _Reader:
    """Reads one file from its beginning."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def header(self) -> GGUFHeader:
        if self._file.read(4) != _MAGIC:
            raise ValueError("it begins with other bytes")
        (version,) = self._unpack(_U32)
        if version not in _VERSIONS:
            raise ValueError(f"version {version} is not known")
        (num_tensors,), (num_entries,) = self._unpack(_U64), self._unpack(_U64)
        if num_tensors > _MAX_ENTRIES or num_entries > _MAX_ENTRIES:
            raise ValueError("it has too many entries")
        metadata: dict[str, Scalar] = {}
        arrays: dict[str, int] = {}
        for _ in range(num_entries):
            key, (kind,) = self._text(), self._unpack(_U32)
            if kind == _ARRAY:
                arrays[key] = self._skip_array()
            else:
                metadata[key] = self._text() if kind == _TEXT else self._number(kind)
        return GGUFHeader(metadata, arrays, sum(self._elements() for _ in range(num_tensors)))

    def _elements(self) -> int:
        """Elements of the next tensor."""
        self._text()
        (dimensions,) = self._unpack(_U32)
        if dimensions > 8:
            raise ValueError(f"a tensor has {dimensions} dimensions")
        count = 1
        for _ in range(dimensions):
            count *= self._unpack(_U64)[0]
        self._unpack(_U32)
        self._unpack(_U64)
        return count

    def _skip_array(self) -> int:
        (kind,), (count,) = self._unpack(_U32), self._unpack(_U64)
        if count > _MAX_ARRAY:
            raise ValueError("an array is too long")
        if kind == _TEXT:
            for _ in range(count):
                self._file.seek(self._unpack(_U64)[0], 1)
        elif kind in _NUMBERS:
            self._file.seek(_NUMBERS[kind].size * count, 1)
        else:
            raise ValueError(f"an array of type {kind}")
        return int(count)

    def _number(self, kind: int) -> Scalar:
        if kind not in _NUMBERS:
            raise ValueError(f"a value of type {kind}")
        value: Scalar = self._unpack(_NUMBERS[kind])[0]
        return value

    def _text(self) -> str:
        (length,) = self._unpack(_U64)
        if length > _MAX_TEXT:
            raise ValueError("a text is too long")
        data = self._file.read(length)
        if len(data) < length:
            raise ValueError("it ends too soon")
        return data.decode("utf-8", "replace")

    def _unpack(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self._file.read(form.size))
