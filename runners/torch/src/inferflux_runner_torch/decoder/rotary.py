"""Rotary positions (arXiv:2104.09864), and how they are stretched to longer contexts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from inferflux_core.models.folder.fields import Fields
from inferflux_runner_torch.decoder.families import Family

__all__ = ["Rotary", "read_rotary", "usable_context"]

_BASE: Final = 10_000.0
_GEMMA_BASE: Final = 1_000_000.0
_MAX_CONTEXT: Final = 1 << 30
_ORIGINAL: Final = "original_max_position_embeddings"
_PART: Final = "partial_rotary_factor"
_OWN_KEYS: Final = frozenset({"rope_type", "type", "rope_theta", _PART})
_STRETCHED: Final = frozenset({"factor", _ORIGINAL, "attention_factor"})
_KEYS: Final = {
    "default": frozenset[str](),
    "linear": frozenset({"factor"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor", _ORIGINAL}),
    "yarn": _STRETCHED | {"beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    "longrope": _STRETCHED | {"long_factor", "short_factor"},
}
"""What each kind may say; anything else would be left out silently."""


@dataclass(frozen=True, slots=True)
class Rotary:
    """Angles by position.

    Attributes:
        frequencies: radians per position: `rotated / 2` of them.
        attention: what sines and cosines are multiplied by.
    """

    frequencies: tuple[float, ...]
    attention: float = 1.0

    def table(self, positions: int) -> Tensor:
        """Cosines, then sines: float32 `[positions, rotated]`."""
        frequencies = torch.tensor(self.frequencies, dtype=torch.float32)
        angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
        return torch.cat((angles.cos(), angles.sin()), dim=1) * self.attention


def read_rotary(config: Fields, family: Family, head: int, context: int) -> tuple[Rotary, Rotary]:
    """The positions of layers without and with a window, from either form that configs have.

    Args:
        config: of the model.
        family: of the model.
        head: elements of a head.
        context: tokens that the model was trained for.

    Raises:
        ModelLoadError: they are of a kind that is not known, or incomplete.
    """
    parameters = config.object("rope_parameters")
    if not family.gemma:
        scaling = parameters if parameters.content else config.object("rope_scaling")
        rotary = _read(config, scaling, family, head, context, _BASE)
        return rotary, rotary
    local = parameters.object("sliding_attention")
    everywhere = parameters.object("full_attention")
    scaling = everywhere if everywhere.content else config.object("rope_scaling")
    base = _base(local, config.number("rope_local_base_freq", _BASE))
    if _kind(local, family) != "default":
        raise local.error("positions of layers with a window cannot be stretched")
    return (
        _read(config, scaling, family, head, context, _GEMMA_BASE),
        Rotary(_plain(base, head)),
    )


def usable_context(config: Fields, family: Family, context: int) -> int:
    """Tokens that are computed as the model was trained.

    LongRoPE has other frequencies for texts that exceed the original context, which would change under a text
    that grows: it is used up to there.
    """
    parameters = config.object("rope_parameters")
    scaling = parameters if parameters.content else config.object("rope_scaling")
    if _kind(scaling, family) != "longrope":
        return context
    return min(context, _original(config, scaling, context))


def _read(
    config: Fields, scaling: Fields, family: Family, head: int, context: int, usual_base: float
) -> Rotary:
    kind = _kind(scaling, family)
    if kind not in _KEYS:
        raise scaling.error(
            f"positions of the kind {kind[:50]!r} are not known",
            hint=f"known are {', '.join(_KEYS)}",
        )
    said = {key for key, value in scaling.content.items() if value is not None}
    if foreign := sorted(said - _KEYS[kind] - _OWN_KEYS):
        raise scaling.error(f"positions of the kind {kind!r} have no {foreign[0][:50]!r}")
    base = _base(scaling, config.number("rope_theta", usual_base))
    plain = _plain(base, _rotated(config, scaling, family, head))
    if kind == "linear":
        factor = scaling.number("factor", None)
        return Rotary(tuple(each / factor for each in plain))
    if kind == "llama3":
        return Rotary(_llama3(scaling, plain, context))
    if kind == "yarn":
        return _yarn(scaling, plain, base, context)
    if kind == "longrope":
        return _longrope(config, scaling, plain, context)
    return Rotary(plain)


def _base(scaling: Fields, usual: float) -> float:
    base = scaling.number("rope_theta", usual)
    if base <= 1:
        raise scaling.error("the base of the positions' frequencies must be more than 1")
    return base


def _plain(base: float, rotated: int) -> tuple[float, ...]:
    return tuple(base ** (-i / rotated) for i in range(0, rotated, 2))


def _rotated(config: Fields, scaling: Fields, family: Family, head: int) -> int:
    part = scaling.number(_PART, config.number(_PART, 1.0))
    if not family.partly_rotated and part != 1.0:
        raise config.error(f"{_PART!r} is not known in this family")
    rotated = int(head * part)
    if not 2 <= rotated <= head or rotated % 2:
        raise config.error(f"{_PART!r} leaves {rotated} of {head} elements to rotate")
    return rotated


def _kind(scaling: Fields, family: Family) -> str:
    kind = scaling.text("rope_type") or scaling.text("type") or "default"
    # Its older names, in Phi-3.
    return "longrope" if family.partly_rotated and kind in ("su", "yarn") else kind


def _original(config: Fields, scaling: Fields, context: int) -> int:
    # Outside of the scaling it counts more.
    said = config if config.get(_ORIGINAL) is not None else scaling
    return said.integer(_ORIGINAL, context, 2, _MAX_CONTEXT)


def _llama3(scaling: Fields, plain: tuple[float, ...], context: int) -> tuple[float, ...]:
    """Low frequencies are divided by the factor, high ones stay, and between them it is blended."""
    factor = scaling.number("factor", None)
    low, high = (scaling.number(f"{key}_freq_factor", None) for key in ("low", "high"))
    if low >= high:
        raise scaling.error("'low_freq_factor' must be less than 'high_freq_factor'")
    original = scaling.integer(_ORIGINAL, context, 1, _MAX_CONTEXT)
    stretched = []
    for frequency in plain:
        turns = original * frequency / (2 * math.pi)
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        stretched.append(frequency * ((1 - kept) / factor + kept))
    return tuple(stretched)


def _yarn(scaling: Fields, plain: tuple[float, ...], base: float, context: int) -> Rotary:
    """YaRN (arXiv:2309.00071)."""
    factor = scaling.number("factor", None)
    original = scaling.integer(_ORIGINAL, context, 1, _MAX_CONTEXT)
    rotated = 2 * len(plain)

    def dimension(turns: float) -> float:
        return rotated * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = dimension(scaling.number("beta_fast", 32.0))
    high = dimension(scaling.number("beta_slow", 1.0))
    if scaling.flag("truncate", default=True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    span = max(high - low, 0.001)
    frequencies = []
    for i, frequency in enumerate(plain):
        stretch = min(max((i - low) / span, 0.0), 1.0)
        frequencies.append(frequency * (stretch / factor + 1 - stretch))
    return Rotary(tuple(frequencies), _yarn_attention(scaling, factor))


def _yarn_attention(scaling: Fields, factor: float) -> float:
    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    usual = magnitude(1.0)
    if scaling.get("mscale") is not None and scaling.get("mscale_all_dim") is not None:
        whole = scaling.number("mscale_all_dim", None)
        usual = magnitude(scaling.number("mscale", None)) / magnitude(whole)
    return scaling.number("attention_factor", usual)


def _longrope(config: Fields, scaling: Fields, plain: tuple[float, ...], context: int) -> Rotary:
    """LongRoPE (arXiv:2402.13753), with its divisors for short texts; see `usable_context`."""
    original = _original(config, scaling, context)
    factor = scaling.number("factor", context / original)
    usual = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    divisors = _divisors(scaling, "short_factor", len(plain))
    frequencies = tuple(each / by for each, by in zip(plain, divisors, strict=True))
    return Rotary(frequencies, scaling.number("attention_factor", usual))


def _divisors(scaling: Fields, key: str, count: int) -> list[float]:
    values: list[Any] = scaling.array(key)
    sound = all(type(value) in (int, float) and 0 < value < 1e30 for value in values)
    if len(values) != count or not sound:
        raise scaling.error(f"{key!r} must have {count} positive numbers")
    return [float(value) for value in values]
