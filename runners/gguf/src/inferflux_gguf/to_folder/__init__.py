"""From one GGUF file to a folder as Hugging Face lays it out, with safetensors: the inverse of `to_gguf`.

Weights are expanded to numbers, and the tokenizer and the settings are described so that the library computes
what llama.cpp does. Whatever cannot be described is refused with its reason, not converted nearly.
"""

from __future__ import annotations

from inferflux_gguf.to_folder.converter import DTYPES, FILES, convert

__all__ = ["DTYPES", "FILES", "convert"]
