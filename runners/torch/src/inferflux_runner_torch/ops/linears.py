"""Linear layers in plain torch."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from inferflux_runner_torch.ops.ops import Linear, Precision

__all__ = ["fast_bf16", "pack_linear"]

_DTYPES: Final[dict[Precision, torch.dtype]] = {
    "f32": torch.float32,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
}


def fast_bf16() -> bool:
    """Whether this processor multiplies matrices of bfloat16 faster than of float32."""
    return _has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack_linear(
    weight: Tensor,
    bias: Tensor | None,
    precision: Precision,
    dtype: torch.dtype,
    device: torch.device,
) -> Linear:
    """Copy a weight to a device, on processors into oneDNN's order: it would be reordered in every call else.

    Args:
        weight: `[out, in]`, on the processor.
        bias: `[out]`.
        precision: of the copies; what they are multiplied with is rounded to it.
        dtype: of activations.
        device: of everything.

    Raises:
        ValueError: torch has no such linear layers.
    """
    if precision not in _DTYPES:
        raise ValueError(f"torch has no linear layers in {precision}")
    kept = _DTYPES[precision]
    added = None if bias is None else bias.to(device, kept, copy=True)
    reorders = kept == torch.float32 or (kept == torch.bfloat16 and fast_bf16())
    if device.type == "cpu" and _has_onednn() and reorders:
        return _Reordered(weight.to(kept), added, dtype)
    placed = torch.empty(weight.shape, dtype=kept, device=device).copy_(weight)
    return _Plain(placed, added, dtype)


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class _Plain:
    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._weight = weight
        self._bias = bias
        self._dtype = dtype

    def __call__(self, rows: Tensor) -> Tensor:
        found = functional.linear(rows.to(self._weight.dtype), self._weight, self._bias)
        return found.to(self._dtype)


class _Reordered:
    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._kept = weight.dtype
        # Always a copy, so that mapped files are let go.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self._bias = bias
        self._dtype = dtype

    def __call__(self, rows: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows.to(self._kept), self._weight, self._bias, "none", [], ""
        )
        return found.to(self._dtype)
