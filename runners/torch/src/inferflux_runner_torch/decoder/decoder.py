"""One decoder for all families: what a layer does, over all rows of a pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import torch
from torch import Tensor

from inferflux_runner_torch.adapters import LoraPlan
from inferflux_runner_torch.decoder.config import DecoderConfig
from inferflux_runner_torch.decoder.weights import DecoderWeights, LayerWeights
from inferflux_runner_torch.ops import KVLayer, Linear, Ops, Rows, TorchOps

__all__ = ["Decoder"]

_QKV: Final = ("q_proj", "k_proj", "v_proj")
_GATE_UP: Final = ("gate_proj", "up_proj")


class _FusedLayers(Protocol):
    """See `NativeLayers`."""

    def __call__(self, residual: Tensor, rows: Rows, cache: Sequence[KVLayer]) -> Tensor: ...


class Decoder:
    """A model that continues texts.

    Args:
        config: what it is.
        weights: of it.
        ops: that they were packed by.
        positions: most tokens of a sequence.
    """

    def __init__(
        self, config: DecoderConfig, weights: DecoderWeights, ops: Ops, positions: int
    ) -> None:
        self._config = config
        self._weights = weights
        self._ops = ops
        tables = {rotary: rotary.table(positions).to(ops.device) for rotary in config.rotaries}
        self._tables = [tables[config.rotary(layer)] for layer in range(config.layers)]
        attention, mlp = config.heads * config.head, config.inner
        keys = config.heads_kv * config.head
        fused = config.family.fused
        self._qkv_parts = _parts("self_attn.qkv_proj" if fused else _QKV, (attention, keys, keys))
        self._gate_up_parts = _parts("mlp.gate_up_proj" if fused else _GATE_UP, (mlp, mlp))
        self._fused_layers = _fuse(config, weights, self._tables, ops)

    def hidden(
        self,
        token_ids: Tensor,
        rows: Rows,
        cache: Sequence[KVLayer],
        lora: LoraPlan | None = None,
    ) -> Tensor:
        """Run the layers.

        Args:
            token_ids: int64 `[rows]`.
            rows: which rows they are.
            cache: of each layer; keys and values of the rows are added.
            lora: adapters of the rows.

        Returns:
            `[rows, width]`, normalised.
        """
        config, ops = self._config, self._ops
        residual = self._weights.embeddings[token_ids].to(ops.dtype)
        if config.embedding_scale != 1.0:
            residual *= config.embedding_scale
        if lora is None and self._fused_layers is not None:
            return self._fused_layers(residual, rows, cache)
        added: Tensor | None = None
        for number, (layer, stored) in enumerate(zip(self._weights.layers, cache, strict=True)):
            if added is None:
                state = ops.rms_norm(residual, layer.norm_in, config.epsilon)
            else:
                state = ops.add_rms_norm(residual, added, layer.norm_in, config.epsilon)
            added = self._attention(number, layer, state, rows, stored, lora)
            state = ops.add_rms_norm(residual, added, layer.norm_mlp, config.epsilon)
            added = self._mlp(number, layer, state, lora)
        assert added is not None
        return ops.add_rms_norm(residual, added, self._weights.norm, config.epsilon)

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 `[rows, vocab]` from what `hidden` returns."""
        logits = self._weights.head(hidden).float()
        if (cap := self._config.logit_cap) is not None:
            logits = torch.tanh(logits / cap) * cap
        return logits

    def _attention(
        self,
        number: int,
        layer: LayerWeights,
        state: Tensor,
        rows: Rows,
        stored: KVLayer,
        lora: LoraPlan | None,
    ) -> Tensor:
        config, ops = self._config, self._ops
        prefix = f"model.layers.{number}."
        joined = layer.qkv(state)
        _adapt(lora, prefix, self._qkv_parts, state, joined)
        sizes = [config.heads, config.heads_kv, config.heads_kv]
        heads = joined.view(joined.shape[0], -1, config.head)
        queries, keys, values = torch.split(heads, sizes, dim=1)
        if layer.norm_queries is not None and layer.norm_keys is not None:
            queries = ops.rms_norm(queries.contiguous(), layer.norm_queries, config.epsilon)
            keys = ops.rms_norm(keys.contiguous(), layer.norm_keys, config.epsilon)
        ops.rotate_and_store(queries, keys, values, self._tables[number], stored, rows)
        window = config.windows[number]
        mixed = ops.attention(queries, stored, rows, config.attention_scale, window)
        out = _linear(layer.out, mixed, lora, prefix + "self_attn.o_proj")
        if layer.norm_attention is not None:
            out = ops.rms_norm(out, layer.norm_attention, config.epsilon)
        return out

    def _mlp(
        self, number: int, layer: LayerWeights, state: Tensor, lora: LoraPlan | None
    ) -> Tensor:
        prefix = f"model.layers.{number}."
        joined = layer.gate_up(state)
        _adapt(lora, prefix, self._gate_up_parts, state, joined)
        inner = self._ops.gated(joined, self._config.activation)
        out = _linear(layer.down, inner, lora, prefix + "mlp.down_proj")
        if layer.norm_out is not None:
            out = self._ops.rms_norm(out, layer.norm_out, self._config.epsilon)
        return out


def _fuse(
    config: DecoderConfig, weights: DecoderWeights, tables: Sequence[Tensor], ops: Ops
) -> _FusedLayers | None:
    if isinstance(ops, TorchOps):
        return None
    # Not at the top: not every platform has the package of the kernels.
    from inferflux_runner_torch.decoder.native_layers import NativeLayers
    from inferflux_runner_torch.ops.native import NativeOps

    return NativeLayers(config, weights, tables, ops) if isinstance(ops, NativeOps) else None


def _parts(names: str | tuple[str, ...], sizes: Sequence[int]) -> list[tuple[str, slice]]:
    """Which columns of a joined linear layer belong to which of the checkpoint's."""
    if isinstance(names, str):
        return [(names, slice(0, sum(sizes)))]
    block = "self_attn." if names == _QKV else "mlp."
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [
        (block + name, slice(end - size, end))
        for name, size, end in zip(names, sizes, ends, strict=True)
    ]


def _adapt(
    lora: LoraPlan | None,
    prefix: str,
    parts: Sequence[tuple[str, slice]],
    state: Tensor,
    joined: Tensor,
) -> None:
    if lora is not None:
        for name, columns in parts:
            lora.add(prefix + name, state, joined[:, columns])


def _linear(linear: Linear, state: Tensor, lora: LoraPlan | None, name: str) -> Tensor:
    out = linear(state)
    if lora is not None:
        lora.add(name, state, out)
    return out
