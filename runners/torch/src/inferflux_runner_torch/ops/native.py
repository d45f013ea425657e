"""The operations with kernels of our own, for x86-64 processors with AVX2."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

import inferflux_kernels_cpu
from inferflux_kernels_cpu import BLOCK, PANEL
from inferflux_runner_torch.ops.ops import Activation, KVLayer, Linear, Precision, Rows

__all__ = ["NativeOps"]

_WORDS: Final[dict[Precision, torch.dtype]] = {"bf16": torch.bfloat16, "f16": torch.float16}


class NativeOps:
    """See `Ops`. Activations are float32, keys and values float16.

    A cache has keys `[blocks, heads, head, 64]`, which puts tokens side by side, and values
    `[blocks, heads, 64, head]`.

    Raises:
        RuntimeError: the kernels cannot be used here.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    block_size = BLOCK

    def __init__(self) -> None:
        self._kernels = inferflux_kernels_cpu.load()

    def pack(self, weight: Tensor, bias: Tensor | None, precision: Precision) -> Linear:
        """Cut a weight into panels.

        Raises:
            ValueError: there is no kernel for the precision.
        """
        added = None if bias is None else self.place(bias)
        if precision == "int8":
            return _Int8Linear(self._kernels, weight, added)
        if precision not in _WORDS:
            raise ValueError(f"there is no kernel for {precision}")
        return _WordLinear(self._kernels, weight.to(_WORDS[precision]), added, precision)

    def place(self, tensor: Tensor) -> Tensor:
        """A copy in float32."""
        return tensor.to(torch.float32, copy=True).contiguous()

    def rms_norm(self, rows: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Normalise the last dimension, of any number of others."""
        out = torch.empty_like(rows)
        width = rows.shape[-1]
        self._kernels.rms_norm(
            rows.data_ptr(),
            weight.data_ptr(),
            out.data_ptr(),
            rows.numel() // width,
            width,
            epsilon,
        )
        return out

    def add_rms_norm(
        self, residual: Tensor, rows: Tensor, weight: Tensor, epsilon: float
    ) -> Tensor:
        """Add in place, and normalise."""
        out = torch.empty_like(residual)
        self._kernels.add_rms_norm(
            residual.data_ptr(),
            rows.data_ptr(),
            weight.data_ptr(),
            out.data_ptr(),
            *residual.shape,
            epsilon,
        )
        return out

    def gated(self, rows: Tensor, activation: Activation) -> Tensor:
        """Activate one half, and multiply it with the other."""
        count, width = rows.shape
        out = torch.empty(count, width // 2)
        kernel = self._kernels.gated_silu if activation == "silu" else self._kernels.gated_gelu
        kernel(rows.data_ptr(), out.data_ptr(), count, width // 2)
        return out

    def new_cache(self, layers: int, blocks: int, heads: int, head: int) -> list[KVLayer]:
        """See the class."""

        def empty(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float16)

        return [
            KVLayer(empty(blocks, heads, head, BLOCK), empty(blocks, heads, BLOCK, head))
            for _ in range(layers)
        ]

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
        count, heads, head = queries.shape
        self._kernels.rotate_and_store(
            queries.data_ptr(),
            queries.stride(0),
            keys.data_ptr(),
            keys.stride(0),
            values.data_ptr(),
            values.stride(0),
            table.data_ptr(),
            rows.positions.data_ptr(),
            rows.cells.data_ptr(),
            layer.keys.data_ptr(),
            layer.values.data_ptr(),
            count,
            heads,
            keys.shape[1],
            head,
            table.shape[1],
        )

    def attention(
        self, queries: Tensor, layer: KVLayer, rows: Rows, scale: float, window: int | None
    ) -> Tensor:
        """Sequences, heads of keys and runs of queries in parallel."""
        count, heads, head = queries.shape
        out = torch.empty(count, heads * head)
        self._kernels.attention(
            queries.data_ptr(),
            queries.stride(0),
            layer.keys.data_ptr(),
            layer.values.data_ptr(),
            rows.starts.data_ptr(),
            rows.contexts.data_ptr(),
            rows.block_tables.data_ptr(),
            rows.block_tables.shape[1],
            out.data_ptr(),
            len(rows.lengths),
            heads,
            layer.keys.shape[1],
            head,
            scale,
            window or 0,
        )
        return out

    def read(self, layer: KVLayer, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Gather them."""
        blocks, tokens = cells // BLOCK, cells % BLOCK
        return layer.keys[blocks, :, :, tokens], layer.values[blocks, :, tokens]

    def write(self, layer: KVLayer, cells: Tensor, keys: Tensor, values: Tensor) -> None:
        """Scatter them."""
        blocks, tokens = cells // BLOCK, cells % BLOCK
        layer.keys[blocks, :, :, tokens] = keys
        layer.values[blocks, :, tokens] = values

    def copy_block(self, layer: KVLayer, source: int, target: int) -> None:
        """Copy a block."""
        layer.keys[target] = layer.keys[source]
        layer.values[target] = layer.values[source]


class _WordLinear:
    """A weight in 16 bits."""

    def __init__(
        self, kernels: object, weight: Tensor, bias: Tensor | None, precision: Precision
    ) -> None:
        self._kernel = getattr(kernels, f"linear_{precision}")
        self._outputs, self._inputs = weight.shape
        self._bias = bias
        self._packed = torch.empty(_padded(self._outputs) * self._inputs, dtype=torch.int16)
        words = weight.contiguous()
        kernels.pack_words(  # type: ignore[attr-defined]
            words.data_ptr(), self._outputs, self._inputs, self._packed.data_ptr()
        )

    def __call__(self, rows: Tensor) -> Tensor:
        count = rows.shape[0]
        out = torch.empty(count, self._outputs)
        self._kernel(
            rows.data_ptr(),
            self._packed.data_ptr(),
            None if self._bias is None else self._bias.data_ptr(),
            out.data_ptr(),
            count,
            self._inputs,
            self._outputs,
        )
        return out


class _Int8Linear:
    """A weight in 8 bits, with a scale for each output."""

    def __init__(self, kernels: object, weight: Tensor, bias: Tensor | None) -> None:
        self._kernel = kernels.linear_int8  # type: ignore[attr-defined]
        self._outputs, self._inputs = weight.shape
        self._bias = bias
        padded, self._even = _padded(self._outputs), self._inputs + self._inputs % 2
        self._packed = torch.empty(padded * self._even, dtype=torch.int8)
        self._scales = torch.empty(padded)
        numbers = weight.float().contiguous()
        kernels.pack_int8(  # type: ignore[attr-defined]
            numbers.data_ptr(),
            self._outputs,
            self._inputs,
            self._packed.data_ptr(),
            self._scales.data_ptr(),
        )

    def __call__(self, rows: Tensor) -> Tensor:
        count = rows.shape[0]
        out = torch.empty(count, self._outputs)
        quantized = torch.empty(count * self._even, dtype=torch.int16)
        scales = torch.empty(count)
        self._kernel(
            rows.data_ptr(),
            self._packed.data_ptr(),
            self._scales.data_ptr(),
            None if self._bias is None else self._bias.data_ptr(),
            out.data_ptr(),
            quantized.data_ptr(),
            scales.data_ptr(),
            count,
            self._inputs,
            self._outputs,
        )
        return out


def _padded(outputs: int) -> int:
    return -(-outputs // PANEL) * PANEL
