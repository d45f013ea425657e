"""The operations with kernels of our own, for x86-64 processors."""

from __future__ import annotations

import ctypes
from typing import Final

import torch
from torch import Tensor

import inferflux_kernels_cpu
from inferflux_kernels_cpu import BLOCK
from inferflux_runner_torch.ops.ops import Activation, KVLayer, Linear, Precision, Rows

__all__ = ["NativeLinear", "NativeOps"]

# As `cpp/kernels.h` numbers them, and what is packed from.
_PRECISIONS: Final[dict[Precision, tuple[int, torch.dtype]]] = {
    "bf16": (0, torch.bfloat16),
    "f16": (1, torch.float16),
    "int8": (2, torch.float32),
}


class NativeOps:
    """See `Ops`. Activations are float32, keys and values float16.

    A cache has keys `[blocks, heads, head, 64]`, which puts tokens side by side, and values
    `[blocks, heads, 64, head]`.

    Args:
        instruction_set: which kernels; the fastest that this processor has by default.

    Attributes:
        instruction_set: that the kernels use.
        kernels: the library for it.

    Raises:
        RuntimeError: the kernels cannot be used here.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    block_size = BLOCK

    def __init__(self, instruction_set: str | None = None) -> None:
        if reason := inferflux_kernels_cpu.why_not():
            raise RuntimeError(reason)
        self.instruction_set = instruction_set or inferflux_kernels_cpu.usable()[0]
        self.kernels = inferflux_kernels_cpu.load(self.instruction_set)

    def pack(self, weight: Tensor, bias: Tensor | None, precision: Precision) -> Linear:
        """Cut a weight into panels.

        Raises:
            ValueError: there is no kernel for the precision.
        """
        if precision not in _PRECISIONS:
            raise ValueError(f"there is no kernel for {precision}")
        added = None if bias is None else self.place(bias)
        return NativeLinear(self.kernels, weight, added, precision)

    def place(self, tensor: Tensor) -> Tensor:
        """A copy in float32."""
        return tensor.to(torch.float32, copy=True).contiguous()

    def rms_norm(self, rows: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Normalise the last dimension, of any number of others."""
        out = torch.empty_like(rows)
        width = rows.shape[-1]
        self.kernels.rms_norm(
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
        self.kernels.add_rms_norm(
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
        kernel = self.kernels.gated_silu if activation == "silu" else self.kernels.gated_gelu
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
        self.kernels.rotate_and_store(
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
        self.kernels.attention(
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
        _, heads, head, _ = layer.keys.shape
        keys = torch.empty(len(cells), heads, head, dtype=layer.keys.dtype)
        values = torch.empty_like(keys)
        self.kernels.read_cells(
            layer.keys.data_ptr(),
            layer.values.data_ptr(),
            cells.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            *keys.shape,
        )
        return keys, values

    def write(self, layer: KVLayer, cells: Tensor, keys: Tensor, values: Tensor) -> None:
        """Scatter them."""
        keys, values = (states.to(layer.keys.dtype).contiguous() for states in (keys, values))
        self.kernels.write_cells(
            layer.keys.data_ptr(),
            layer.values.data_ptr(),
            cells.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            *keys.shape,
        )

    def copy_block(self, layer: KVLayer, source: int, target: int) -> None:
        """Copy a block."""
        layer.keys[target] = layer.keys[source]
        layer.values[target] = layer.values[source]


class NativeLinear:
    """A packed weight, with a scale for each output if it has 8 bits.

    Args:
        kernels: the library that packs it, and that alone can use it.
        weight: `[out, in]`.
        bias: float32 `[out]`.
        precision: of what is packed.
    """

    def __init__(
        self, kernels: ctypes.CDLL, weight: Tensor, bias: Tensor | None, precision: Precision
    ) -> None:
        self._kernels = kernels
        self._outputs, self._inputs = weight.shape
        number, dtype = _PRECISIONS[precision]
        size = kernels.packed_bytes(number, self._inputs, self._outputs)
        self._packed = torch.empty(size, dtype=torch.uint8)
        padded = -(-self._outputs // kernels.panel()) * kernels.panel()
        self._scales = torch.empty(padded) if precision == "int8" else None
        self._bias = bias
        self._struct = inferflux_kernels_cpu.Linear(
            number,
            self._inputs,
            self._outputs,
            self._packed.data_ptr(),
            None if self._scales is None else self._scales.data_ptr(),
            None if bias is None else bias.data_ptr(),
        )
        self.address = ctypes.addressof(self._struct)
        numbers = weight.to(dtype).contiguous()
        kernels.pack(self.address, numbers.data_ptr())
        self._row_bytes = kernels.scratch_bytes(self.address, 1)

    def __call__(self, rows: Tensor) -> Tensor:
        """See `Linear`.

        Raises:
            ValueError: the rows are not contiguous float32 `[rows, in]`.
        """
        if rows.dtype != torch.float32 or not rows.is_contiguous() or rows.dim() != 2:
            raise ValueError("rows must be a contiguous matrix of float32")
        if rows.shape[1] != self._inputs:
            raise ValueError(f"rows of {self._inputs} numbers are due, not of {rows.shape[1]}")
        count = rows.shape[0]
        out = torch.empty(count, self._outputs)
        scratch = torch.empty(count * self._row_bytes, dtype=torch.uint8)
        self._kernels.linear(
            self.address, rows.data_ptr(), out.data_ptr(), scratch.data_ptr(), count
        )
        return out
