"""The conversion as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from inferflux_core.errors import ModelLoadError
from inferflux_gguf.contents import open_gguf
from inferflux_gguf.to_folder.description import describe
from inferflux_gguf.to_folder.safetensors_writer import write_safetensors
from inferflux_gguf.to_folder.weights import find_weights

__all__ = ["DTYPES", "FILES", "convert"]

_NAMES: Final = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
DTYPES: Final = tuple(_NAMES)
"""What weights can be written as; the first is the usual."""
_WEIGHTS: Final = "model.safetensors"
FILES: Final = frozenset(
    {
        _WEIGHTS,
        *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    }
)
"""What a folder consists of."""


def convert(source: Path, target: Path, dtype: str, report: Callable[[float], None]) -> None:
    """Write the model of a GGUF file to a folder with safetensors.

    Args:
        source: a GGUF file, or the first part of a split one.
        target: a folder; what it has of the same names is overwritten, and useless if this fails.
        dtype: of the weights, one of `DTYPES`.
        report: is called with the share that is done, from 0 to 1.

    Raises:
        ModelLoadError: it is damaged, or of a kind that Hugging Face's library would not compute alike.
    """
    contents = open_gguf(source)
    description = describe(contents)
    weights = find_weights(contents, description.config)
    files = {
        "config.json": description.config | {"torch_dtype": _NAMES[dtype]},
        "generation_config.json": description.generation_config,
        "tokenizer.json": description.tokenizer,
        "tokenizer_config.json": description.tokenizer_config,
    }
    try:
        for name, content in files.items():
            text = json.dumps(content, ensure_ascii=False, indent=2)
            (target / name).write_text(text + "\n", "utf-8")
        write_safetensors(weights, target / _WEIGHTS, dtype, report)
    except OSError as error:
        raise ModelLoadError(
            f"the model cannot be written: {error}", hint="see that the disk has room for it"
        ) from error
