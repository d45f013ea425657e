"""How positions are encoded, from a GGUF file's metadata and its tensors."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inferflux_core.models.folder.fields import Fields
from inferflux_gguf.contents import Contents
from inferflux_gguf.to_gguf.long_rope import LONG, SHORT
from inferflux_gguf.to_gguf.rope import DIVISORS, llama3_divisors

__all__ = ["describe_rope", "shortest"]

_BASE: Final = 10_000.0
_MAX_CONTEXT: Final = 1 << 30
_LOW, _HIGH = 1.0, 4.0
"""The bounds that every model of Llama 3 has."""
_HINT: Final = "no config is known that does the same; use the authors' own folder"


def shortest(number: float) -> float:
    """The number with the fewest digits that is the same in 32 bits, as GGUF keeps it."""
    return float(str(np.float32(number)))


def describe_rope(contents: Contents, config: dict[str, Any]) -> dict[str, Any]:
    """What a config says of positions.

    Args:
        contents: of the file.
        config: what is known of the sizes.

    Raises:
        ModelLoadError: they are of a kind that Hugging Face's library has not.
    """
    family, head = contents.architecture, config["head_dim"]
    base = shortest(contents.number(f"{family}.rope.freq_base", _BASE))
    described: dict[str, Any] = {"rope_theta": base, "rope_scaling": None}
    rotated = contents.integer(f"{family}.rope.dimension_count", head, 1, head)
    if family == "phi3":
        described["partial_rotary_factor"] = rotated / head
    elif rotated != head:
        raise contents.error("only a part of each head is rotated", hint=_HINT)
    if family == "gemma3":
        local = contents.number("gemma3.rope.freq_base_swa", _BASE)
        described["rope_local_base_freq"] = shortest(local)
    return described | _stretched(contents, base, rotated, config)


def _stretched(
    contents: Contents, base: float, rotated: int, config: dict[str, Any]
) -> dict[str, Any]:
    """By what positions were stretched to longer contexts."""
    prefix = f"{contents.architecture}.rope.scaling."
    kind = contents.text(f"{prefix}type") or "none"
    present = {DIVISORS, LONG, SHORT} & contents.tensors.keys()
    long = present == {LONG, SHORT} and contents.architecture == "phi3"
    if long and kind in ("none", "longrope"):
        return _long_rope(contents, rotated, config)
    # Sines and cosines are multiplied by it.
    if contents.number(f"{prefix}attn_factor", 1.0) != 1.0:
        raise contents.error(f"{prefix}attn_factor is a setting without a meaning", hint=_HINT)
    if present == {DIVISORS} and kind == "none":
        return {"rope_scaling": _llama3(contents, base, config)}
    if present or kind not in ("none", "linear", "yarn"):
        what = f"{kind[:50]!r} with {', '.join(sorted(present)) or 'no divisors'}"
        raise contents.error(f"positions are stretched by {what}", hint=_HINT)
    if kind == "none":
        return {}
    factor = shortest(contents.number(f"{prefix}factor", None))
    if kind == "linear":
        return {"rope_scaling": {"rope_type": kind, "factor": factor}}
    scaling = {
        "rope_type": kind,
        "factor": factor,
        "original_max_position_embeddings": _original(contents, config),
        "beta_fast": shortest(contents.number(f"{prefix}yarn_beta_fast", 32.0)),
        "beta_slow": shortest(contents.number(f"{prefix}yarn_beta_slow", 1.0)),
    }
    return {"rope_scaling": scaling}


def _original(contents: Contents, config: dict[str, Any]) -> int:
    """Tokens that the model was first trained for."""
    key = f"{contents.architecture}.rope.scaling.original_context_length"
    return contents.integer(key, config["max_position_embeddings"], 1, _MAX_CONTEXT)


def _long_rope(contents: Contents, rotated: int, config: dict[str, Any]) -> dict[str, Any]:
    scaling: dict[str, Any] = {
        "rope_type": "longrope",
        "attention_factor": shortest(contents.number("phi3.rope.scaling.attn_factor", 1.0)),
    }
    for key, name in (("long_factor", LONG), ("short_factor", SHORT)):
        divisors = _divisors(contents, name)
        if len(divisors) != rotated // 2:
            raise contents.error(f"{name!r} has {len(divisors)} numbers, and not {rotated // 2}")
        scaling[key] = [shortest(divisor) for divisor in divisors]
    return {
        "rope_scaling": scaling,
        # Phi-3 has it here, outside of the scaling.
        "original_max_position_embeddings": _original(contents, config),
    }


def _divisors(contents: Contents, name: str) -> npt.NDArray[np.float32]:
    tensor = contents.tensors[name]
    return tensor.floats(tensor.raw()).reshape(-1)


def _llama3(contents: Contents, base: float, config: dict[str, Any]) -> dict[str, Any]:
    """The scaling that has such divisors.

    Any frequency that is neither kept nor divided by the whole factor tells the length that the model was
    first trained for.
    """
    head, context = config["head_dim"], config["max_position_embeddings"]
    divisors = _divisors(contents, DIVISORS)
    factor = float(divisors.max(initial=1.0))
    between = (divisors > 1.0) & (divisors < factor)
    if len(divisors) == head // 2 and between.any():
        kept = (1 / divisors[between].astype(np.float64) - 1 / factor) / (1 - 1 / factor)
        frequencies = base ** (-np.arange(0, head, 2) / head)
        turns = _LOW + kept * (_HIGH - _LOW)
        lengths = 2 * math.pi * turns / frequencies[between]
        scaling = {
            "rope_type": "llama3",
            "factor": shortest(factor),
            "low_freq_factor": _LOW,
            "high_freq_factor": _HIGH,
            "original_max_position_embeddings": max(1, round(float(np.median(lengths)))),
        }
        same = llama3_divisors(Fields(DIVISORS, scaling), base, head, context)
        if np.allclose(same, divisors, rtol=1e-4):
            return scaling
    raise contents.error(f"positions are stretched by {DIVISORS} in an unknown way", hint=_HINT)
