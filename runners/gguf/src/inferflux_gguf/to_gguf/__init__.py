"""From a folder as Hugging Face lays it out, with safetensors, to one GGUF file.

Nothing of the folder is ever executed: JSON is read, and weights are copied. Whatever llama.cpp would
compute differently from the model's authors is refused with its reason, not converted nearly.
"""

from __future__ import annotations

from inferflux_gguf.to_gguf.converter import convert

__all__ = ["convert"]
