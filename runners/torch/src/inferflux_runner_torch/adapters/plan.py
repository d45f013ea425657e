"""Which rows of a batch get which adapters, and the products that follow from it.

Rows with the same adapter are computed together, whatever sequences they belong to, as in S-LoRA
(arXiv:2311.03285) and Punica (arXiv:2310.18547): two thin products for each adapter and linear layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from inferflux_core.engine.runner import AdapterSet
from inferflux_runner_torch.adapters.peft import LoraFactors

__all__ = ["LoraPlan", "plan_rows"]

Rows = slice | torch.Tensor
"""Rows of a batch: a slice where they are neighbours, for then nothing is copied."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows with one adapter; `scale` is `[rows, 1]` where it is not the same for all."""

    factors: Mapping[str, LoraFactors]
    rows: Rows
    scale: float | torch.Tensor


class LoraPlan:
    """The adapters of one batch.

    Args:
        groups: rows by adapter.
    """

    def __init__(self, groups: Sequence[_Group]) -> None:
        self._groups = groups

    def add(self, name: str, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """Add to a linear layer's outputs what the adapters change.

        Args:
            name: of the layer, such as `model.layers.0.self_attn.q_proj`.
            inputs: `[rows, inputs]`.
            outputs: `[rows, outputs]`, changed in place; may be a part of the columns of something larger.
        """
        for group in self._groups:
            factors = group.factors.get(name)
            if factors is None:
                continue
            middle = (inputs[group.rows] @ factors.down.T) * group.scale
            if isinstance(group.rows, slice):
                outputs[group.rows].addmm_(middle.to(outputs.dtype), factors.up.T)
            else:
                outputs.index_add_(0, group.rows, (middle @ factors.up.T).to(outputs.dtype))


def plan_rows(
    loaded: Mapping[int, Mapping[str, LoraFactors]],
    work: Sequence[tuple[AdapterSet, int]],
    device: torch.device,
) -> LoraPlan | None:
    """Group the rows of a batch by adapter.

    Args:
        loaded: factors by handle.
        work: adapters and number of rows of each sequence, in the order of the batch.
        device: where the batch is.

    Returns:
        None if no row has an adapter.
    """
    spans: dict[int, list[tuple[int, int, float]]] = {}
    start = 0
    for adapters, count in work:
        for handle, scale in adapters:
            spans.setdefault(handle, []).append((start, start + count, scale))
        start += count
    if not spans:
        return None
    return LoraPlan([_group(loaded[handle], found, device) for handle, found in spans.items()])


def _group(
    factors: Mapping[str, LoraFactors], spans: list[tuple[int, int, float]], device: torch.device
) -> _Group:
    adjoin = all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    rows: Rows
    if adjoin:
        rows = slice(spans[0][0], spans[-1][1])
    else:
        numbers = [row for begin, end, _ in spans for row in range(begin, end)]
        rows = torch.tensor(numbers, device=device)
    scales = {scale for *_, scale in spans}
    if len(scales) == 1:
        return _Group(factors, rows, scales.pop())
    by_row = [scale for begin, end, scale in spans for _ in range(begin, end)]
    # In the factors' type, lest products of other types come out of it.
    dtype = next(iter(factors.values())).down.dtype
    return _Group(factors, rows, torch.tensor(by_row, device=device, dtype=dtype)[:, None])
