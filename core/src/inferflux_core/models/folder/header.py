"""What a model folder says about itself, in the words of a GGUF file's header."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Final

from inferflux_core.models.folder.chat_template import read_chat_template
from inferflux_core.models.folder.checkpoint import read_checkpoint
from inferflux_core.models.folder.fields import read_fields
from inferflux_core.models.folder.purpose import only_embeds
from inferflux_core.models.gguf_header import GGUFHeader, Scalar

__all__ = ["read_folder_header"]

_MOST: Final = 1 << 40
_FILE_TYPES: Final = {"F32": 0, "F16": 1, "BF16": 32}  # llama.cpp's `llama_ftype`


def read_folder_header(folder: Path) -> GGUFHeader:
    """Read the configuration, the chat template, and how large the weights are.

    Raises:
        ModelLoadError: a file is damaged.
    """
    config = read_fields(folder / "config.json", required=True)
    family = config.text("model_type") or "unknown"
    text = config if config.get("text_config") is None else config.object("text_config")
    elements: Counter[str] = Counter()
    for tensor in read_checkpoint(folder).values():
        elements[tensor.dtype] += math.prod(tensor.shape)
    metadata: dict[str, Scalar] = {"general.architecture": family}
    for key, name in (
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("block_count", "num_hidden_layers"),
    ):
        if text.get(name) is not None:
            metadata[f"{family}.{key}"] = text.integer(name, None, 0, _MOST)
    if only_embeds(config):
        metadata[f"{family}.attention.causal"] = False
    most = max(elements, key=lambda kind: elements[kind], default="")
    if most in _FILE_TYPES:
        metadata["general.file_type"] = _FILE_TYPES[most]
    if template := read_chat_template(folder):
        metadata["tokenizer.chat_template"] = template
    return GGUFHeader(metadata, {}, elements.total())
