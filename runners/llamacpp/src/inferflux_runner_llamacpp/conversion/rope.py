"""How positions are encoded, and how that was stretched to longer contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf.constants import RopeScalingType
from gguf.gguf_writer import GGUFWriter

from inferflux_runner_llamacpp.conversion.dimensions import Dimensions
from inferflux_runner_llamacpp.conversion.fields import Fields

__all__ = ["Rope", "read_rope"]

_BASE: Final = 10_000.0
_GLOBAL_BASE: Final = 1_000_000.0
"""Of the layers of Gemma 3 that see everything; those with a window have the usual base."""
_MAX_CONTEXT: Final = 1 << 30
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
}
"""What each kind of scaling may say; anything else would be left out silently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary positions.

    Attributes:
        base: of the frequencies.
        window_base: the same in layers with a sliding window, if it is given.
        scaling: what the model's context was stretched by, except `llama3`.
        divisors: `[head / 2]`, what each frequency is divided by, if `llama3` stretched it.
    """

    base: float
    window_base: float | None
    scaling: Fields | None
    divisors: npt.NDArray[np.float32] | None

    def describe(self, writer: GGUFWriter, dims: Dimensions) -> None:
        """Add what llama.cpp is to know of it."""
        writer.add_rope_dimension_count(dims.head)
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


def read_rope(config: Fields, dims: Dimensions, *, windowed: bool) -> Rope:
    """The positions of a model, from either form that configs have.

    Args:
        config: of the model.
        dims: of the model.
        windowed: whether layers with and without a window differ, as in Gemma 3.

    Raises:
        ModelLoadError: llama.cpp cannot compute them.
    """
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
    if kind not in _KEYS:
        raise scaling.error(
            f"positions of the kind {kind[:50]!r} cannot be converted",
            hint=f"known are {', '.join(_KEYS)}",
        )
    said = {key for key, value in scaling.content.items() if value is not None}
    if foreign := sorted(said - _KEYS[kind] - _OWN_KEYS):
        raise scaling.error(f"positions of the kind {kind!r} have no {foreign[0][:50]!r}")
    return Rope(
        base=base,
        window_base=window_base,
        scaling=scaling if kind in ("linear", "yarn") else None,
        divisors=_divisors(scaling, base, dims) if kind == "llama3" else None,
    )


def _kind(scaling: Fields) -> str:
    return scaling.text("rope_type") or scaling.text("type") or "default"


def _original_context(scaling: Fields, context: int) -> int:
    return scaling.integer("original_max_position_embeddings", context, 1, _MAX_CONTEXT)


def _divisors(scaling: Fields, base: float, dims: Dimensions) -> npt.NDArray[np.float32]:
    """Low frequencies are divided by the factor, high ones stay, and between them it is blended."""
    factor = scaling.number("factor", None)
    low, high = (scaling.number(f"{key}_freq_factor", None) for key in ("low", "high"))
    if low >= high:
        raise scaling.error("'low_freq_factor' must be less than 'high_freq_factor'")
    context = _original_context(scaling, dims.context)
    frequencies = base ** (-np.arange(0, dims.head, 2, dtype=np.float64) / dims.head)
    turns = context * frequencies / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 / ((1 - kept) / factor + kept)).astype(np.float32)
