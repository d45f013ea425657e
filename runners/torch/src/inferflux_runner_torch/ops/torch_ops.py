"""The operations in plain torch: for every device, and what faster ones are compared with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from inferflux_runner_torch.ops.linears import pack_linear
from inferflux_runner_torch.ops.ops import Activation, KVLayer, Linear, Precision, Rows

__all__ = ["TorchOps"]


class TorchOps:
    """See `Ops`.

    Args:
        device: where everything is.
        dtype: of activations.
        cache_dtype: of stored keys and values.
        block_size: tokens in a block of keys and values.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        cache_dtype: torch.dtype,
        block_size: int = 64,
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.block_size = block_size
        self._cache_dtype = cache_dtype

    def pack(self, weight: Tensor, bias: Tensor | None, precision: Precision) -> Linear:
        """Copy a weight to the device.

        Raises:
            ValueError: torch has no linear layers in this precision.
        """
        return pack_linear(weight, bias, precision, self.dtype, self.device)

    def place(self, tensor: Tensor) -> Tensor:
        """A copy in float32 on the device, never the tensor itself: that may be a mapped file."""
        return tensor.to(self.device, torch.float32, copy=True)

    def rms_norm(self, rows: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Normalise in float32, as the models were trained."""
        wide = rows.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        return (wide * weight).to(self.dtype)

    def add_rms_norm(
        self, residual: Tensor, rows: Tensor, weight: Tensor, epsilon: float
    ) -> Tensor:
        """Add in place, and normalise."""
        residual += rows
        return self.rms_norm(residual, weight, epsilon)

    def gated(self, rows: Tensor, activation: Activation) -> Tensor:
        """Activate one half, and multiply it with the other."""
        gates, through = rows.chunk(2, dim=-1)
        if activation == "silu":
            return functional.silu(gates) * through
        return functional.gelu(gates, approximate="tanh") * through

    def new_cache(self, layers: int, blocks: int, heads: int, head: int) -> list[KVLayer]:
        """`[cells, heads, head]` for keys and values each."""
        shape = (blocks * self.block_size, heads, head)

        def empty() -> Tensor:
            return torch.zeros(shape, dtype=self._cache_dtype, device=self.device)

        return [KVLayer(empty(), empty()) for _ in range(layers)]

    def rotate_and_store(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        table: Tensor,
        layer: KVLayer,
        rows: Rows,
    ) -> None:
        """Rotate in place, and store."""
        angles = table[rows.positions].unsqueeze(1)
        _rotate(queries, angles)
        _rotate(keys, angles)
        self.write(layer, rows.cells, keys, values)

    def attention(
        self, queries: Tensor, layer: KVLayer, rows: Rows, scale: float, window: int | None
    ) -> Tensor:
        """Single rows of all sequences together, longer runs sequence by sequence."""
        result = torch.empty_like(queries)
        single = [s for s, length in enumerate(rows.lengths) if length == 1]
        if single:
            self._attend_single(queries, layer, rows, single, scale, window, result)
        start = 0
        for sequence, length in enumerate(rows.lengths):
            if length > 1:
                part = slice(start, start + length)
                result[part] = self._attend(
                    queries[part], layer, rows, sequence, scale=scale, window=window
                )
            start += length
        return result.flatten(1)

    def read(self, layer: KVLayer, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Gather them."""
        return layer.keys[cells], layer.values[cells]

    def write(self, layer: KVLayer, cells: Tensor, keys: Tensor, values: Tensor) -> None:
        """Scatter them."""
        layer.keys.index_copy_(0, cells, keys.to(self._cache_dtype))
        layer.values.index_copy_(0, cells, values.to(self._cache_dtype))

    def copy_block(self, layer: KVLayer, source: int, target: int) -> None:
        """Copy a block."""
        for cells in (layer.keys, layer.values):
            blocks = cells.view(-1, self.block_size, *cells.shape[1:])
            blocks[target] = blocks[source]

    def _cells(self, tables: Tensor, first: int, end: int) -> Tensor:
        """Cells of the tokens `first .. end - 1` of sequences: `[sequences, end - first]`."""
        tokens = torch.arange(first, end, device=self.device)
        return tables[:, tokens // self.block_size].long() * self.block_size + (
            tokens % self.block_size
        )

    def _attend(
        self,
        queries: Tensor,
        layer: KVLayer,
        rows: Rows,
        sequence: int,
        *,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """The last rows of one sequence: `[rows, heads, head]`."""
        end, count = rows.ends[sequence], len(queries)
        first = 0 if window is None else max(0, end - count - window + 1)
        cells = self._cells(rows.block_tables[sequence : sequence + 1], first, end)[0]
        seen = torch.arange(first, end, device=self.device)
        asking = torch.arange(end - count, end, device=self.device).unsqueeze(1)
        mask = seen <= asking
        if window is not None:
            mask &= seen > asking - window
        keys, values = (t.to(self.dtype).transpose(0, 1) for t in self.read(layer, cells))
        found = functional.scaled_dot_product_attention(
            queries.transpose(0, 1).unsqueeze(0),
            keys.unsqueeze(0),
            values.unsqueeze(0),
            attn_mask=mask,
            scale=scale,
            enable_gqa=True,
        )
        return found[0].transpose(0, 1)

    def _attend_single(
        self,
        queries: Tensor,
        layer: KVLayer,
        rows: Rows,
        members: list[int],
        scale: float,
        window: int | None,
        result: Tensor,
    ) -> None:
        """One row each of several sequences, which are padded to the longest; written to `result`."""
        chosen = torch.tensor(members, device=self.device)
        contexts = rows.contexts[chosen].unsqueeze(1)
        at = rows.starts[chosen]
        longest = max(rows.ends[s] for s in members)
        shortest = min(rows.ends[s] for s in members)
        first = 0 if window is None else max(0, shortest - window)
        cells = self._cells(rows.block_tables[chosen], first, longest)
        seen = torch.arange(first, longest, device=self.device).unsqueeze(0)
        mask = seen < contexts
        if window is not None:
            mask = mask & (seen >= contexts - window)
        # What lies behind a sequence's end may be a block of another, and if that one went wrong, NaN: masked
        # or not, it would spread. Its own last token stands there instead.
        cells = torch.where(mask, cells, rows.cells[at].unsqueeze(1))
        keys, values = (t.to(self.dtype).transpose(1, 2) for t in self.read(layer, cells))
        asking = queries[at]
        heads = keys.shape[1]
        # Heads that share keys are rows of one matrix, so that no key is copied for them.
        asking = asking.reshape(len(members), heads, -1, asking.shape[-1])
        found = functional.scaled_dot_product_attention(
            asking, keys, values, attn_mask=mask[:, None, None, :], scale=scale
        )
        result[at] = found.flatten(1, 2)


def _rotate(heads: Tensor, angles: Tensor) -> None:
    half = angles.shape[-1] // 2
    cosine, sine = angles[..., :half], angles[..., half:]
    first, second = heads[..., :half].float(), heads[..., half : 2 * half].float()
    # Both before either is written: without a conversion they are views.
    turned = first * cosine - second * sine, second * cosine + first * sine
    heads[..., :half], heads[..., half : 2 * half] = (part.to(heads.dtype) for part in turned)
