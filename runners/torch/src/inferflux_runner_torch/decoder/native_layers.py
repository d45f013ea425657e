"""All layers of a decoder in one call of our own kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

import inferflux_kernels_cpu
from inferflux_runner_torch.decoder.config import DecoderConfig
from inferflux_runner_torch.decoder.weights import DecoderWeights, LayerWeights
from inferflux_runner_torch.ops import KVLayer, Linear, Rows
from inferflux_runner_torch.ops.native import NativeLinear, NativeOps

__all__ = ["NativeLayers"]


class NativeLayers:
    """Computes to the bit what `Decoder` computes with `NativeOps`, operation by operation.

    A pass of one row would be Python between some 300 kernels for a fifth of its time. For one thread: the
    buffers are kept, since the system would zero fresh ones first.

    Args:
        config: of the model.
        weights: packed by `ops`.
        tables: angles for each layer.
        ops: whose kernels to use.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: DecoderWeights,
        tables: Sequence[Tensor],
        ops: NativeOps,
    ) -> None:
        self._kernels = ops.kernels
        # Addresses keep nothing alive.
        self._weights = weights
        self._tables = tables
        self._decoder = inferflux_kernels_cpu.Decoder(
            layers=config.layers,
            width=config.width,
            inner=config.inner,
            heads=config.heads,
            heads_kv=config.heads_kv,
            head=config.head,
            gelu=config.activation == "gelu_tanh",
            epsilon=config.epsilon,
            attention_scale=config.attention_scale,
        )
        self._layers = (inferflux_kernels_cpu.Layer * config.layers)(
            *map(_layer, weights.layers, tables, config.windows)
        )
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def __call__(self, residual: Tensor, rows: Rows, cache: Sequence[KVLayer]) -> Tensor:
        """Run the layers.

        Args:
            residual: embeddings float32 `[rows, width]`, which are overwritten.
            rows: which rows they are.
            cache: of each layer; keys and values of the rows are added.

        Returns:
            `[rows, width]`, normalised.
        """
        count = len(residual)
        for layer, stored in zip(self._layers, cache, strict=True):
            layer.keys, layer.values = stored.keys.data_ptr(), stored.values.data_ptr()
        decoder = ctypes.addressof(self._decoder)
        layers = ctypes.addressof(self._layers)
        needed = self._kernels.layers_scratch_bytes(decoder, layers, count)
        if needed > len(self._scratch):
            self._scratch = torch.empty(needed, dtype=torch.uint8)
        where = inferflux_kernels_cpu.Rows(
            count,
            len(rows.lengths),
            rows.block_tables.shape[1],
            rows.starts.data_ptr(),
            rows.contexts.data_ptr(),
            rows.block_tables.data_ptr(),
            rows.positions.data_ptr(),
            rows.cells.data_ptr(),
        )
        out = torch.empty_like(residual)
        self._kernels.layers(
            decoder,
            layers,
            self._weights.norm.data_ptr(),
            ctypes.addressof(where),
            residual.data_ptr(),
            out.data_ptr(),
            self._scratch.data_ptr(),
        )
        return out


def _layer(weights: LayerWeights, table: Tensor, window: int | None) -> inferflux_kernels_cpu.Layer:
    return inferflux_kernels_cpu.Layer(
        qkv=_linear(weights.qkv),
        out=_linear(weights.out),
        gate_up=_linear(weights.gate_up),
        down=_linear(weights.down),
        norm_in=_norm(weights.norm_in),
        norm_queries=_norm(weights.norm_queries),
        norm_keys=_norm(weights.norm_keys),
        norm_attention=_norm(weights.norm_attention),
        norm_mlp=_norm(weights.norm_mlp),
        norm_out=_norm(weights.norm_out),
        table=table.data_ptr(),
        rotated=table.shape[1],
        window=window or 0,
    )


def _linear(linear: Linear) -> int:
    assert isinstance(linear, NativeLinear), "packed by other operations"
    return linear.address


def _norm(weight: Tensor | None) -> int | None:
    return None if weight is None else weight.data_ptr()
