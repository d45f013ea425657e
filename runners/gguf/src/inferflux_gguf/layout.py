"""The layout of a GGUF file, read without trusting it.

llama.cpp aborts the process on some damaged files and calls hostile ones out of scope, so a file is
walked here first. The format is described in `docs/gguf.md` of the ggml project; where llama.cpp is
stricter than that document (tensor data without gaps, no nested arrays), so is this module. Memory
use does not depend on the vocabulary: arrays are stepped over, never built.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from typing import Final

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from inferflux_gguf.cursor import U32, U64, Cursor

__all__ = ["Entry", "Layout", "Tensor", "read_layout"]

_VERSIONS: Final = (2, 3)
_DEFAULT_ALIGNMENT: Final = 32
_LEAST_ALIGNMENT: Final = 32  # ggml asserts it of the buffers it maps
_MAX_KEYS: Final = 1 << 14
_MAX_TENSORS: Final = 1 << 17
_MAX_KEY_BYTES: Final = 1024
_MAX_NAME_BYTES: Final = 63  # ggml keeps names in 64 bytes, with a NUL
_MAX_DIMS: Final = 4
_MAX_LAYERS: Final = 512
_INT64_MAX: Final = 2**63 - 1
_KEY_BYTES: Final = 13  # the least a key, its type and its value can take
_TENSOR_BYTES: Final = 24
_SCALARS: Final = {
    GGUFValueType.UINT8: struct.Struct("<B"),
    GGUFValueType.INT8: struct.Struct("<b"),
    GGUFValueType.UINT16: struct.Struct("<H"),
    GGUFValueType.INT16: struct.Struct("<h"),
    GGUFValueType.UINT32: U32,
    GGUFValueType.INT32: struct.Struct("<i"),
    GGUFValueType.FLOAT32: struct.Struct("<f"),
    GGUFValueType.BOOL: struct.Struct("<?"),
    GGUFValueType.UINT64: U64,
    GGUFValueType.INT64: struct.Struct("<q"),
    GGUFValueType.FLOAT64: struct.Struct("<d"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A metadata value.

    Attributes:
        type: its type; of an array, the type of the elements.
        count: elements of the array, or None for a single value.
        content: the value, or the elements. None for strings over 4 KiB, arrays of strings, and
            arrays longer than a model has layers.
        start: where the content lies in the file.
    """

    type: GGUFValueType
    count: int | None
    content: int | float | bytes | tuple[int | float, ...] | None
    start: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's place in the file: `offset` from the start of the data, `size` in bytes.

    `shape` has the innermost dimension first, as GGUF has it.
    """

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    elements: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """All a GGUF file declares, checked against the file's size; the data begin at `data_offset`."""

    version: int
    metadata: dict[str, Entry]
    tensors: tuple[Tensor, ...]
    data_offset: int


def read_layout(data: mmap.mmap, file: str) -> Layout:
    """Walk a file that starts with the GGUF magic.

    Args:
        data: the whole file.
        file: its name, for messages.

    Raises:
        ModelLoadError: the file breaks a rule of the format.
    """
    cursor = Cursor(data, file)
    cursor.skip(4, "the magic")
    version = _read_version(cursor)
    tensor_count, key_count = cursor.u64("the header"), cursor.u64("the header")
    _check_count(cursor, "tensors", tensor_count, _MAX_TENSORS, _TENSOR_BYTES)
    _check_count(cursor, "metadata keys", key_count, _MAX_KEYS, _KEY_BYTES)
    metadata: dict[str, Entry] = {}
    for _ in range(key_count):
        key = cursor.name(_MAX_KEY_BYTES, "a metadata key")
        if key in metadata:
            cursor.fail(f"the metadata key {key!r} appears twice")
        metadata[key] = _read_entry(cursor, f"the value of {key!r}")
    alignment = _alignment(cursor, metadata)
    tensors = tuple(_read_tensor(cursor) for _ in range(tensor_count))
    _check_data(cursor, tensors, alignment)
    return Layout(version, metadata, tensors, _padded(cursor.position, alignment))


def _read_version(cursor: Cursor) -> int:
    version = cursor.u32("the header")
    if version & 0xFFFF == 0 and version:
        cursor.fail(
            "it is a big-endian GGUF file",
            hint="convert the model again on a little-endian machine",
        )
    if version not in _VERSIONS:
        cursor.fail(
            f"GGUF version {version} is not supported, only {' and '.join(map(str, _VERSIONS))}",
            hint="convert the model again with a current llama.cpp, or update inferflux",
        )
    return version


def _check_count(cursor: Cursor, what: str, count: int, most: int, least_bytes: int) -> None:
    if count > most:
        cursor.fail(f"it claims {count} {what}; at most {most} are allowed")
    if count * least_bytes > cursor.size - cursor.position:
        cursor.fail(f"truncated: {cursor.size} bytes cannot hold the {count} {what} it claims")


def _value_type(cursor: Cursor, what: str) -> GGUFValueType:
    number = cursor.u32(what)
    try:
        return GGUFValueType(number)
    except ValueError:
        cursor.fail(f"{what} has the unknown type {number}")


def _read_entry(cursor: Cursor, what: str) -> Entry:
    kind = _value_type(cursor, what)
    start = cursor.position
    if kind is GGUFValueType.STRING:
        return Entry(kind, None, cursor.string(what), start)
    if kind is not GGUFValueType.ARRAY:
        return Entry(kind, None, cursor.number(_SCALARS[kind], what), start)
    kind, count = _value_type(cursor, what), cursor.u64(what)
    start = cursor.position
    if kind is GGUFValueType.ARRAY:
        cursor.fail(f"{what} is an array of arrays")
    if kind is GGUFValueType.STRING:
        cursor.skip_strings(count, what)
        return Entry(kind, count, None, start)
    form = _SCALARS[kind]
    if count > _MAX_LAYERS:
        cursor.skip(form.size * count, what)
        return Entry(kind, count, None, start)
    return Entry(kind, count, cursor.numbers(form, count, what), start)


def _alignment(cursor: Cursor, metadata: dict[str, Entry]) -> int:
    entry = metadata.get("general.alignment")
    if entry is None:
        return _DEFAULT_ALIGNMENT
    value = entry.content
    if entry.type is not GGUFValueType.UINT32 or not isinstance(value, int):
        cursor.fail("'general.alignment' must be a single UINT32")
    if value < _LEAST_ALIGNMENT or value & (value - 1):
        cursor.fail(f"alignment {value} is not a power of two of at least {_LEAST_ALIGNMENT}")
    return value


def _read_tensor(cursor: Cursor) -> Tensor:
    name = cursor.name(_MAX_NAME_BYTES, "a tensor name")
    what = f"tensor {name!r}"
    dims = cursor.u32(what)
    if dims > _MAX_DIMS:
        cursor.fail(f"{what} has {dims} dimensions; at most {_MAX_DIMS} are allowed")
    shape = [cursor.u64(what) for _ in range(dims)]
    elements = math.prod(shape)
    if not 0 < elements <= _INT64_MAX:
        cursor.fail(f"{what} has the impossible shape {shape}")
    kind = _tensor_type(cursor, what)
    block, block_bytes = GGML_QUANT_SIZES[kind]
    row = shape[0] if shape else 1
    if row % block:
        cursor.fail(f"{what} has rows of {row} elements, not a multiple of {kind.name}'s {block}")
    size = elements // block * block_bytes
    if size > _INT64_MAX:
        cursor.fail(f"{what} of shape {shape} is larger than any memory")
    return Tensor(name, kind, tuple(shape), elements, cursor.u64(what), size)


def _tensor_type(cursor: Cursor, what: str) -> GGMLQuantizationType:
    number = cursor.u32(what)
    try:
        return GGMLQuantizationType(number)
    except ValueError:
        cursor.fail(
            f"{what} has the unknown quantization type {number}",
            hint="the type is newer than the installed `gguf` package or no longer supported; "
            "update it, or quantize the model again",
        )


def _check_data(cursor: Cursor, tensors: tuple[Tensor, ...], alignment: int) -> None:
    """Tensor data must follow each other in order, padded to the alignment, inside the file."""
    seen: set[str] = set()
    expected = 0
    for tensor in tensors:
        if tensor.name in seen:
            cursor.fail(f"the tensor {tensor.name!r} appears twice")
        seen.add(tensor.name)
        if tensor.offset % alignment:
            cursor.fail(f"tensor {tensor.name!r} starts at {tensor.offset}, which is misaligned")
        if tensor.offset != expected:
            relation = "overlaps" if tensor.offset < expected else "leaves a gap after"
            cursor.fail(
                f"tensor {tensor.name!r} {relation} the one before it: "
                f"it starts at {tensor.offset} instead of {expected}"
            )
        expected += _padded(tensor.size, alignment)
    if tensors:
        end = _padded(cursor.position, alignment) + tensors[-1].offset + tensors[-1].size
        if end > cursor.size:
            cursor.fail(f"truncated: expected {end} bytes and the file has {cursor.size}")


def _padded(length: int, alignment: int) -> int:
    return length + -length % alignment
