"""Bounded reads from an untrusted GGUF file."""

from __future__ import annotations

import mmap
import struct
from typing import Final, NoReturn

from inferflux_core.errors import ModelLoadError

__all__ = ["U32", "U64", "Cursor"]

U32: Final = struct.Struct("<I")
U64: Final = struct.Struct("<Q")

_DAMAGED: Final = (
    "the file is damaged: download it again and compare its size and checksum with the publisher's"
)
_MAX_STRINGS: Final = 1 << 22  # in all arrays together; the largest vocabularies have 2**18 tokens
_MAX_STRING_BYTES: Final = 1 << 28
_KEPT_BYTES: Final = 4096


class Cursor:
    """Reads a mapped file from the front, and never past its end."""

    __slots__ = ("_data", "_file", "_strings_left", "position", "size")

    def __init__(self, data: mmap.mmap, file: str) -> None:
        self._data = data
        self._file = file
        self._strings_left = _MAX_STRINGS
        self.position = 0
        self.size = len(data)

    def fail(self, problem: str, *, hint: str = _DAMAGED) -> NoReturn:
        """Refuse the file."""
        raise ModelLoadError(f"{self._file}: {problem}", hint=hint)

    def skip(self, length: int, what: str) -> int:
        """Step over `length` bytes and return where they start."""
        start = self.position
        if length > self.size - start:
            self.fail(f"truncated: it ends at byte {self.size}, inside {what}")
        self.position = start + length
        return start

    def number(self, form: struct.Struct, what: str) -> int | float:
        """Read one number."""
        value: int | float = form.unpack_from(self._data, self.skip(form.size, what))[0]
        return value

    def u32(self, what: str) -> int:
        """Read an unsigned 32-bit integer."""
        return int(self.number(U32, what))

    def u64(self, what: str) -> int:
        """Read an unsigned 64-bit integer."""
        return int(self.number(U64, what))

    def numbers(self, form: struct.Struct, count: int, what: str) -> tuple[int | float, ...]:
        """Read a short array."""
        start = self.skip(form.size * count, what)
        end = self.position
        return tuple(item[0] for item in form.iter_unpack(self._data[start:end]))

    def string(self, what: str) -> bytes | None:
        """Read a string, or step over one that is too long to keep."""
        length = self.u64(what)
        if length > _MAX_STRING_BYTES:
            self.fail(f"{what} claims a length of {length} bytes")
        start = self.skip(length, what)
        return self._data[start : start + length] if length <= _KEPT_BYTES else None

    def name(self, limit: int, what: str) -> str:
        """Read an identifier: 1 to `limit` bytes of printable UTF-8."""
        length = self.u64(what)
        if not 0 < length <= limit:
            self.fail(f"{what} claims a length of {length} bytes; 1 to {limit} are allowed")
        start = self.skip(length, what)
        try:
            text = self._data[start : start + length].decode()
        except UnicodeDecodeError:
            self.fail(f"{what} is not valid UTF-8")
        # To C a name ends at a NUL, so two names that differ here would be one there.
        if not text.isprintable():
            self.fail(f"{what} {text!r} contains control characters")
        return text

    def skip_strings(self, count: int, what: str) -> None:
        """Step over an array of strings."""
        if count > self._strings_left:
            self.fail(f"{what} claims {count} strings")
        self._strings_left -= count
        data, size, position = self._data, self.size - U64.size, self.position
        unpack = U64.unpack_from
        for _ in range(count):
            if position > size:
                self.fail(f"truncated: it ends at byte {self.size}, inside {what}")
            position += 8 + unpack(data, position)[0]
        self.position = min(position, self.size)
        self.skip(position - self.position, what)
