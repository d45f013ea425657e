"""The few operations that a decoder is made of, each over all rows of a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

__all__ = ["Activation", "KVLayer", "Linear", "Ops", "Precision", "Rows"]

Activation = Literal["silu", "gelu_tanh"]
Precision = Literal["f32", "bf16", "f16", "int8"]
"""Of packed weights. `int8` quantizes them by row, and what they are multiplied with by row too."""


@dataclass(frozen=True, slots=True)
class KVLayer:
    """Keys and values of one layer, in blocks that `Ops` laid out; only they know how."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a pass belong to which sequence. Rows of a sequence are neighbours, in their order.

    Attributes:
        starts: int32 `[sequences + 1]`: sequence `s` has the rows `starts[s] .. starts[s + 1] - 1`.
        contexts: int32 `[sequences]`: tokens of a sequence, with those of this pass.
        block_tables: int32 `[sequences, blocks]`: token `t` lies in block `block_tables[s, t // size]`, at
            `t % size`; what lies behind the last block in use means nothing.
        positions: int64 `[rows]`.
        cells: int64 `[rows]`: where keys and values go: `block * size + offset`.
        lengths: rows of each sequence, as Python has them.
        ends: `contexts`, as Python has them.
    """

    starts: Tensor
    contexts: Tensor
    block_tables: Tensor
    positions: Tensor
    cells: Tensor
    lengths: Sequence[int]
    ends: Sequence[int]


class Linear(Protocol):
    """A packed weight."""

    def __call__(self, rows: Tensor) -> Tensor:
        """`[rows, in]` to `[rows, out]`, with the bias if it has one."""


class Ops(Protocol):
    """Operations on one device. Tensors of activations are contiguous, of the type `dtype`.

    Attributes:
        device: where everything is.
        dtype: of activations.
        block_size: tokens in a block of keys and values.
    """

    device: torch.device
    dtype: torch.dtype
    block_size: int

    def pack(self, weight: Tensor, bias: Tensor | None, precision: Precision) -> Linear:
        """Take over a weight `[out, in]`, on the processor and of any floating type; not kept."""

    def place(self, tensor: Tensor) -> Tensor:
        """A small weight, as the other operations want it."""

    def rms_norm(self, rows: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Normalise `[rows, width]`, and multiply it with `weight` `[width]`."""

    def add_rms_norm(
        self, residual: Tensor, rows: Tensor, weight: Tensor, epsilon: float
    ) -> Tensor:
        """Add `rows` to `residual` in place, and return its norm."""

    def gated(self, rows: Tensor, activation: Activation) -> Tensor:
        """`[rows, 2 * inner]`, gates before what they let through, to `[rows, inner]`."""

    def new_cache(self, layers: int, blocks: int, heads: int, head: int) -> list[KVLayer]:
        """Room for keys and values `[heads, head]` of `blocks * block_size` tokens, by layer."""

    def rotate_and_store(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        table: Tensor,
        layer: KVLayer,
        rows: Rows,
    ) -> None:
        """Rotate queries and keys in place, and store keys and values.

        Args:
            queries: `[rows, heads, head]`, contiguous in their last dimension, as are keys and values.
            keys: `[rows, kv heads, head]`, before their rotation.
            values: `[rows, kv heads, head]`.
            table: float32 `[positions, rotated]`: cosines of `rotated / 2` angles, then their sines.
                Elements `i` and `i + rotated / 2` of a head are rotated; those from `rotated` on stay.
            layer: where they go.
            rows: which rows they are.
        """

    def attention(
        self, queries: Tensor, layer: KVLayer, rows: Rows, scale: float, window: int | None
    ) -> Tensor:
        """Causal attention over what is stored; rows of this pass have been stored before.

        Args:
            queries: `[rows, heads, head]`, rotated; `heads` is a multiple of those of keys, which
                neighbours share. Contiguous in their last dimension.
            layer: keys and values.
            rows: which rows they are.
            scale: of the products.
            window: tokens that one sees, itself among them; None for all before it.

        Returns:
            `[rows, heads * head]`.
        """

    def read(self, layer: KVLayer, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of cells (int64): `[cells, heads, head]` each, in the type they are stored in."""

    def write(self, layer: KVLayer, cells: Tensor, keys: Tensor, values: Tensor) -> None:
        """The other way round."""

    def copy_block(self, layer: KVLayer, source: int, target: int) -> None:
        """Copy a block."""
