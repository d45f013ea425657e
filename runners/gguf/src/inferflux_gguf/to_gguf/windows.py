"""Layers that see the last tokens only."""

from __future__ import annotations

from typing import Final

from gguf.constants import MODEL_ARCH
from gguf.gguf_writer import GGUFWriter

from inferflux_core.models.folder.fields import Fields
from inferflux_gguf.to_gguf.dimensions import Dimensions
from inferflux_gguf.to_gguf.families import Family

__all__ = ["describe_windows", "usable_context"]

_PATTERN: Final = 6
"""Of Gemma 3: every sixth layer sees everything."""


def usable_context(config: Fields, family: Family, dims: Dimensions) -> int:
    """The tokens for which llama.cpp computes what the model was trained for.

    Outside of Gemma 3, it lets every layer see everything, which is the same up to the window's length.
    """
    if family.arch is MODEL_ARCH.GEMMA3 or config.get("sliding_window") is None:
        return dims.context
    # Mistral and Phi-3 use the window if there is one, Qwen only where it is asked to, and Llama never.
    if family.arch is MODEL_ARCH.LLAMA and not family.windowed:
        return dims.context
    if not config.flag("use_sliding_window", default=family.windowed):
        return dims.context
    return min(dims.context, config.integer("sliding_window", None, 1, dims.context))


def describe_windows(config: Fields, dims: Dimensions, writer: GGUFWriter) -> None:
    """Add the windows of Gemma 3, and what else is its own.

    Raises:
        ModelLoadError: llama.cpp cannot compute it so.
    """
    windowed = _windowed_layers(config, dims.layers)
    if any(windowed):  # llama.cpp ends the process over a window that no layer has
        writer.add_sliding_window(config.integer("sliding_window", 4096, 1, 1 << 30))
        writer.add_sliding_window_pattern(windowed)
    if config.get("final_logit_softcapping") is not None:
        writer.add_final_logit_softcapping(config.number("final_logit_softcapping", None))
    # llama.cpp takes the scale of attention from the width of a head, except in the largest model.
    scalar = config.number("query_pre_attn_scalar", dims.head)
    usual = dims.width // dims.heads if dims.layers == 62 else dims.head
    if scalar != usual:
        raise config.error(f"'query_pre_attn_scalar' is {scalar}; llama.cpp has {usual} here")
    if config.flag("use_bidirectional_attention", default=False):
        raise config.error("the model sees later tokens too, and so only embeds")


def _windowed_layers(config: Fields, layers: int) -> list[bool]:
    kinds = config.array("layer_types")
    if not kinds:
        key = "sliding_window_pattern"
        pattern = config.integer(key, config.integer(f"_{key}", _PATTERN, 1, 512), 1, 512)
        return [(layer + 1) % pattern != 0 for layer in range(layers)]
    known = {"sliding_attention": True, "full_attention": False}
    if len(kinds) != layers or not all(isinstance(kind, str) and kind in known for kind in kinds):
        raise config.error(f"'layer_types' must have {' or '.join(known)} for {layers} layers")
    return [known[kind] for kind in kinds]
