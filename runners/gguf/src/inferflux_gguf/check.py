"""Is this file a model that llama.cpp can be asked to load, and how much memory will it take?"""

from __future__ import annotations

import mmap
import re
import stat
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gguf.constants import LlamaFileType, PoolingType

from inferflux_core.errors import ModelLoadError
from inferflux_gguf.layout import Layout, read_layout
from inferflux_gguf.metadata import MAX_WIDTH, Metadata
from inferflux_gguf.split import check_first, check_part, check_parts, part_path

__all__ = ["GGUFSummary", "check_gguf", "read_gguf", "tensor_shapes"]

_CONVERT: Final = "convert it with llama.cpp's `convert_hf_to_gguf.py`, or download a .gguf file"
_FOREIGN: Final = (
    (rb"PK\x03\x04", "a zip archive, probably a PyTorch checkpoint", _CONVERT),
    (rb"\x80[\x02-\x05]", "a Python pickle, which could run code when opened", _CONVERT),
    (
        rb".{7}\x00\{",
        "a safetensors file",
        "name its whole folder, or make a GGUF file of it: inferctl convert --help",
    ),
    (rb"(lmgg|fmgg|tjgg)", "a GGML file from before GGUF", _CONVERT),
    (
        rb"version https://git-lfs",
        "a Git LFS pointer, not the model itself",
        "run `git lfs pull` in the repository it came from",
    ),
    (
        rb"\s*<(!doctype|html|\?xml)",
        "a web page, probably an error that was saved as the model",
        "open the address in a browser: it may need a login or an accepted licence",
    ),
)
_MAX_LAYERS: Final = 512  # llama.cpp asserts it
_MAX_CONTEXT: Final = 2**30
_MAX_PARTS: Final = 9_999
_FILE_TYPES: Final = {
    int(item): item.name.removeprefix("MOSTLY_").removeprefix("ALL_")
    for item in LlamaFileType
    if item is not LlamaFileType.GUESSED
}
_UNREADABLE: Final = "check `model.path`"


@dataclass(frozen=True, slots=True)
class GGUFSummary:
    """What a GGUF file says about its model.

    Attributes:
        version: of the file format.
        architecture: llama.cpp's name of the model family.
        name: of the model, "" if the file gives none.
        context_length: tokens the model was trained for.
        block_count: layers.
        head_counts_kv: key-value heads of each layer; 0 where a layer keeps no such cache.
        key_length: elements of one head's key.
        value_length: elements of one head's value.
        file_size: bytes, of all parts.
        tensor_bytes: bytes of the weights themselves.
        tensor_count: tensors in all parts.
        quantization: as `general.file_type` has it, else the type of most of the weights.
        has_chat_template: whether prompts can be rendered as the model's authors meant.
        split_count: files the model is split into; 1 for a whole model.
        pooling: how the states of an input's tokens become one embedding: `mean`, `cls`, `last`, or
            `rank` for one score; "" for models that were not made to embed.
        causal: whether tokens see only those before them, as in every model that generates.
    """

    version: int
    architecture: str
    name: str
    context_length: int
    block_count: int
    head_counts_kv: tuple[int, ...]
    key_length: int
    value_length: int
    file_size: int
    tensor_bytes: int
    tensor_count: int
    quantization: str
    has_chat_template: bool
    split_count: int
    pooling: str = ""
    causal: bool = True

    @property
    def generates(self) -> bool:
        """Whether the model continues texts; others only embed."""
        return self.causal and not self.pooling

    @property
    def kv_elements_per_token(self) -> int:
        """Elements all layers keep for one token; an upper bound for sliding-window models."""
        return sum(self.head_counts_kv) * (self.key_length + self.value_length)


def check_gguf(path: Path) -> GGUFSummary:
    """Walk a GGUF file, and the other parts of a split model, before llama.cpp sees it.

    Args:
        path: a whole model, or the first part of a split one.

    Raises:
        ModelLoadError: the file is missing, no GGUF file, damaged, or no language model.
    """
    layout, size = read_gguf(path)
    check_first(path, layout)
    summary = _summarize(Metadata(path, layout), layout, size)
    parts = [layout]
    for number in range(1, summary.split_count):
        part, part_size = _read_part(path, number, summary.split_count)
        parts.append(part)
        summary = replace(
            summary,
            file_size=summary.file_size + part_size,
            tensor_bytes=summary.tensor_bytes + sum(tensor.size for tensor in part.tensors),
            tensor_count=summary.tensor_count + len(part.tensors),
        )
    check_parts(path, parts)
    if not summary.tensor_count:
        raise ModelLoadError(f"{path.name}: it holds no weights", hint="download the whole model")
    return summary


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights, over all its parts, innermost dimension first.

    Raises:
        ModelLoadError: see `check_gguf`.
    """
    layout, _ = read_gguf(path)
    tensors = list(layout.tensors)
    count = _split_count(Metadata(path, layout))
    for number in range(1, count):
        part, _ = _read_part(path, number, count)
        tensors += part.tensors
    return {tensor.name: tensor.shape for tensor in tensors}


def read_gguf(path: Path) -> tuple[Layout, int]:
    """Walk any GGUF file: what it declares, and its size.

    Raises:
        ModelLoadError: the file is missing, no GGUF file, or damaged.
    """
    try:
        # Opening a pipe would wait for a writer, so look first.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ModelLoadError(
                f"{path} is a directory", hint="name the .gguf file inside it in `model.path`"
            )
        if not stat.S_ISREG(mode):
            raise ModelLoadError(f"{path} is not a regular file", hint=_UNREADABLE)
        with path.open("rb") as file:
            if not file.read(1):
                raise ModelLoadError(f"{path.name} is empty", hint="download the file again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _check_magic(data, path)
                return read_layout(data, path.name), len(data)
    except FileNotFoundError:
        raise ModelLoadError(f"there is no model file {path}", hint=_UNREADABLE) from None
    except (OSError, ValueError) as error:
        # ValueError: a path with a NUL, or a file that was emptied after it was opened.
        raise ModelLoadError(f"cannot read {path}: {error}", hint=_UNREADABLE) from error


def _check_magic(data: mmap.mmap, path: Path) -> None:
    start = data[:64]
    if start[:4] == b"GGUF":
        return
    for pattern, what, hint in _FOREIGN:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            raise ModelLoadError(f"{path.name} is {what}", hint=hint)
    raise ModelLoadError(
        f"{path.name} is not a GGUF file: it starts with {start[:4]!r}",
        hint="the llama.cpp runner executes .gguf files only",
    )


def _summarize(metadata: Metadata, layout: Layout, size: int) -> GGUFSummary:
    split_count = _split_count(metadata)
    _check_purpose(metadata)
    family = metadata.architecture
    layers = metadata.integer(f"{family}.block_count", None, 1, _MAX_LAYERS)
    width = metadata.integer(f"{family}.embedding_length", None, 1, MAX_WIDTH)
    heads = metadata.per_layer(f"{family}.attention.head_count", layers, (0,) * layers)
    head_width = width // heads[0] if heads[0] else 0
    return GGUFSummary(
        version=layout.version,
        architecture=family,
        name=metadata.text("general.name"),
        context_length=metadata.integer(f"{family}.context_length", None, 1, _MAX_CONTEXT),
        block_count=layers,
        head_counts_kv=metadata.per_layer(f"{family}.attention.head_count_kv", layers, heads),
        key_length=metadata.integer(f"{family}.attention.key_length", head_width, 0, MAX_WIDTH),
        value_length=metadata.integer(f"{family}.attention.value_length", head_width, 0, MAX_WIDTH),
        file_size=size,
        tensor_bytes=sum(tensor.size for tensor in layout.tensors),
        tensor_count=len(layout.tensors),
        quantization=_quantization(metadata, layout),
        has_chat_template=metadata.has_text("tokenizer.chat_template"),
        split_count=split_count,
        pooling=_pooling(metadata),
        causal=metadata.flag(f"{family}.attention.causal", default=True),
    )


def _check_purpose(metadata: Metadata) -> None:
    purpose = metadata.text("general.type") or "model"
    if purpose != "model":
        raise metadata.error(
            f"it holds the {purpose!r} part of a model, not a model",
            hint="name the file with the language model in `model.path`",
        )


def _split_count(metadata: Metadata) -> int:
    return metadata.integer("split.count", 1, 0, _MAX_PARTS) or 1


def _read_part(path: Path, number: int, count: int) -> tuple[Layout, int]:
    """Part `number` (from 0) of the model whose first part is `path`."""
    file = part_path(path, number, count)
    layout, size = read_gguf(file)
    check_part(file, layout, number, count)
    return layout, size


def _pooling(metadata: Metadata) -> str:
    kind = metadata.integer(f"{metadata.architecture}.pooling_type", 0, 0, max(PoolingType))
    return PoolingType(kind).name.lower() if kind else ""


def _quantization(metadata: Metadata, layout: Layout) -> str:
    declared = metadata.integer("general.file_type", LlamaFileType.GUESSED, 0, 2**32)
    if declared in _FILE_TYPES:
        return _FILE_TYPES[declared]
    weights: Counter[str] = Counter()
    for tensor in layout.tensors:
        weights[tensor.type.name] += tensor.elements
    return max(weights, key=weights.__getitem__, default="unknown")
