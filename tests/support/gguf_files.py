"""GGUF files that are made of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
from gguf.constants import GGUFValueType

_OWN = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture")


def rewritten(
    source: Path,
    target: Path,
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Any] | None = None,
) -> Path:
    """A file like another, but for some fields and tensors; None leaves one out.

    New fields are of the type that their value has in Python; tensors are arrays of numpy,
    or such an array of bytes with its type.
    """
    reader = gguf.GGUFReader(source)
    changes = dict(fields or {})
    arch = changes.pop("general.architecture", reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(target, arch)
    for key, field in reader.fields.items():
        if key in _OWN:
            continue
        value = changes.pop(key, field.contents())
        if value is not None and key not in (fields or {}):
            kinds = [*field.types, None]
            writer.add_key_value(key, value, kinds[0], kinds[1])
        elif value is not None:
            _add(writer, key, value)
    for key, value in changes.items():
        _add(writer, key, value)
    arrays = {tensor.name: (tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    arrays |= {
        name: array if isinstance(array, tuple) else (array, None)
        for name, array in (tensors or {}).items()
    }
    for name, (data, kind) in arrays.items():
        if data is not None:
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kind = GGUFValueType.get_type(value)
    part = GGUFValueType.get_type(value[0]) if kind is GGUFValueType.ARRAY else None
    writer.add_key_value(key, value, kind, part)
