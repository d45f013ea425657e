"""How positions are encoded, and how that was stretched to longer contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf.constants import MODEL_ARCH, RopeScalingType
from gguf.gguf_writer import GGUFWriter

from inferflux_core.models.folder.fields import Fields
from inferflux_gguf.to_gguf.dimensions import Dimensions
from inferflux_gguf.to_gguf.families import Family
from inferflux_gguf.to_gguf.long_rope import LongRope, read_long_rope

__all__ = ["DIVISORS", "Rope", "llama3_divisors", "read_rope"]

DIVISORS: Final = "rope_freqs.weight"
_BASE: Final = 10_000.0
_GLOBAL_BASE: Final = 1_000_000.0
"""Of the layers of Gemma 3 that see everything; those with a window have the usual base."""
_MAX_CONTEXT: Final = 1 << 30
_PART: Final = "partial_rotary_factor"
_OWN_KEYS: Final = frozenset({"rope_type", "type", "rope_theta"})
_KEYS: Final = {
    "default": frozenset[str](),
    "linear": frozenset({"factor"}),
    "llama3": frozenset(
        {
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        }
    ),
    "yarn": frozenset(
        {
            "factor",
            "original_max_position_embeddings",
            "beta_fast",
            "beta_slow",
        }
    ),
    "longrope": frozenset(
        {
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "long_factor",
            "short_factor",
        }
    ),
}
"""What each kind of scaling may say; anything else would be left out silently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary positions.

    Attributes:
        base: of the frequencies.
        window_base: the same in layers with a sliding window, if it is given.
        rotated: elements of each head that are rotated, the first ones.
        scaling: what the model's context was stretched by, if it was by one factor or by YaRN.
        divisors: what each frequency is divided by, if `llama3` or LongRoPE stretched it: `[rotated / 2]`, by
            the name of their tensor.
        long: how LongRoPE stretched it.
    """

    base: float
    window_base: float | None
    rotated: int
    scaling: Fields | None
    divisors: dict[str, npt.NDArray[np.float32]]
    long: LongRope | None

    def usable_context(self, context: int) -> int:
        """The tokens for which llama.cpp computes what the model was trained for.

        It chooses LongRoPE's divisors by the length that it has room for, and the model by that of the text.
        """
        return min(context, self.long.context) if self.long else context

    def describe(self, writer: GGUFWriter, dims: Dimensions) -> None:
        """Add what llama.cpp is to know of it."""
        writer.add_rope_dimension_count(self.rotated)
        if self.long is not None:
            self.long.describe(writer)
        writer.add_rope_freq_base(self.base)
        if self.window_base is not None:
            writer.add_rope_freq_base_swa(self.window_base)
        if self.scaling is None:
            return
        writer.add_rope_scaling_factor(self.scaling.number("factor", None))
        if _kind(self.scaling) == "linear":
            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            return
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_orig_ctx_len(_original_context(self.scaling, dims.context))
        writer.add_rope_scaling_yarn_beta_fast(self.scaling.number("beta_fast", 32.0))
        writer.add_rope_scaling_yarn_beta_slow(self.scaling.number("beta_slow", 1.0))


def read_rope(config: Fields, family: Family, dims: Dimensions) -> Rope:
    """The positions of a model, from either form that configs have.

    Raises:
        ModelLoadError: llama.cpp cannot compute them.
    """
    # Layers with and without a window differ.
    windowed = family.arch is MODEL_ARCH.GEMMA3
    parameters = config.object("rope_parameters")
    window_base = None
    if windowed:
        local = parameters.object("sliding_attention")
        if _kind(local) != "default":
            raise local.error("llama.cpp does not scale the positions of layers with a window")
        window_base = local.number("rope_theta", config.number("rope_local_base_freq", _BASE))
        parameters = parameters.object("full_attention")
    scaling = parameters if parameters.content else config.object("rope_scaling")
    usual = _GLOBAL_BASE if windowed else _BASE
    base = scaling.number("rope_theta", config.number("rope_theta", usual))
    kind = _kind(scaling)
    if family.partly_rotated and kind in ("su", "yarn"):
        kind = "longrope"  # its older names, in Phi-3
    if kind not in _KEYS or (kind == "longrope" and not family.partly_rotated):
        raise scaling.error(
            f"positions of the kind {kind[:50]!r} cannot be converted",
            hint=f"known are {', '.join(_KEYS)}",
        )
    said = {key for key, value in scaling.content.items() if value is not None}
    own = _OWN_KEYS | ({_PART} if family.partly_rotated else set())
    if foreign := sorted(said - _KEYS[kind] - own):
        raise scaling.error(f"positions of the kind {kind!r} have no {foreign[0][:50]!r}")
    rotated = _rotated(config, scaling, dims) if family.partly_rotated else dims.head
    long = read_long_rope(config, scaling, dims, rotated) if kind == "longrope" else None
    divisors = long.divisors if long else {}
    if kind == "llama3":
        divisors = {DIVISORS: llama3_divisors(scaling, base, dims.head, dims.context)}
    return Rope(
        base=base,
        window_base=window_base,
        rotated=rotated,
        scaling=scaling if kind in ("linear", "yarn") else None,
        divisors=divisors,
        long=long,
    )


def _rotated(config: Fields, scaling: Fields, dims: Dimensions) -> int:
    part = scaling.number(_PART, config.number(_PART, 1.0))
    rotated = int(dims.head * part)
    if not 2 <= rotated <= dims.head or rotated % 2:
        raise config.error(f"{_PART!r} leaves {rotated} of {dims.head} elements to rotate")
    return rotated


def _kind(scaling: Fields) -> str:
    return scaling.text("rope_type") or scaling.text("type") or "default"


def _original_context(scaling: Fields, context: int) -> int:
    return scaling.integer("original_max_position_embeddings", context, 1, _MAX_CONTEXT)


def llama3_divisors(
    scaling: Fields, base: float, head: int, context: int
) -> npt.NDArray[np.float32]:
    """Low frequencies are divided by the factor, high ones stay, and between them it is blended.

    Args:
        scaling: what the config says of it.
        base: of the frequencies.
        head: elements of a head.
        context: tokens that the model was first trained for, if the scaling does not say.

    Returns:
        `[head / 2]`.
    """
    factor = scaling.number("factor", None)
    low, high = (scaling.number(f"{key}_freq_factor", None) for key in ("low", "high"))
    if low >= high:
        raise scaling.error("'low_freq_factor' must be less than 'high_freq_factor'")
    context = _original_context(scaling, context)
    frequencies = base ** (-np.arange(0, head, 2, dtype=np.float64) / head)
    turns = context * frequencies / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 / ((1 - kept) / factor + kept)).astype(np.float32)
