"""Positions stretched by LongRoPE, as in the long models of Phi-3: every frequency has its own divisor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf.gguf_writer import GGUFWriter

from inferflux_core.models.folder.fields import Fields
from inferflux_gguf.to_gguf.dimensions import Dimensions

__all__ = ["LONG", "SHORT", "LongRope", "read_long_rope"]

LONG: Final = "rope_factors_long.weight"
SHORT: Final = "rope_factors_short.weight"
_ORIGINAL: Final = "original_max_position_embeddings"
_MAX_CONTEXT: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRope:
    """Divisors of frequencies.

    Attributes:
        divisors: `[rotated / 2]`, by the name of their tensor: one set for long and one for short texts.
        context: tokens of a short text.
        attention: what sines and cosines are multiplied by.
    """

    divisors: dict[str, npt.NDArray[np.float32]]
    context: int
    attention: float

    def describe(self, writer: GGUFWriter) -> None:
        """Add what llama.cpp is to know of it."""
        writer.add_rope_scaling_orig_ctx_len(self.context)
        writer.add_rope_scaling_attn_factors(self.attention)


def read_long_rope(config: Fields, scaling: Fields, dims: Dimensions, rotated: int) -> LongRope:
    """What a config says of it.

    Raises:
        ModelLoadError: it is incomplete, or its divisors are not as many as the frequencies.
    """
    # Outside of the scaling it counts more.
    said = config if config.get(_ORIGINAL) is not None else scaling
    context = said.integer(_ORIGINAL, dims.context, 2, _MAX_CONTEXT)
    factor = scaling.number("factor", dims.context / context)
    usual = math.sqrt(1 + math.log(factor) / math.log(context)) if factor > 1 else 1.0
    return LongRope(
        divisors={
            LONG: _divisors(scaling, "long_factor", rotated // 2),
            SHORT: _divisors(scaling, "short_factor", rotated // 2),
        },
        context=context,
        attention=scaling.number("attention_factor", usual),
    )


def _divisors(scaling: Fields, key: str, count: int) -> npt.NDArray[np.float32]:
    values: list[Any] = scaling.array(key)
    sound = all(type(value) in (int, float) and 0 < value < 1e30 for value in values)
    if len(values) != count or not sound:
        raise scaling.error(f"{key!r} must have {count} positive numbers")
    return np.array(values, np.float32)
