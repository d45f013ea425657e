"""The weights of a decoder, in the form in which they are computed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from inferflux_runner_torch.decoder.config import DecoderConfig
from inferflux_runner_torch.ops import Linear, Ops, Precision
from inferflux_runner_torch.shapes import check_shapes

__all__ = [
    "Checkpoint",
    "DecoderWeights",
    "LayerWeights",
    "check_weights",
    "linears_of",
    "load_weights",
    "shapes_of",
]

_QKV: Final = ["q_proj", "k_proj", "v_proj"]
_GATE_UP: Final = ["gate_proj", "up_proj"]
_SPARE: Final = ("rotary_emb.inv_freq", "lm_head.weight")
"""Positions of older checkpoints, which follow from the configuration, and an output that is tied."""


class Checkpoint(Protocol):
    """Weights in files, named as Hugging Face names them."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors, by name."""

    def tensor(self, name: str) -> Tensor:
        """One of them, on the processor, of a floating type; may be a mapped file, and is not to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """Of one layer. What a family does not have is None."""

    norm_in: Tensor
    qkv: Linear
    norm_queries: Tensor | None
    norm_keys: Tensor | None
    out: Linear
    norm_attention: Tensor | None
    norm_mlp: Tensor
    gate_up: Linear
    down: Linear
    norm_out: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderWeights:
    """Of a whole model; `embeddings` is `[vocab, width]`."""

    embeddings: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Linear


def shapes_of(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every weight that a model must have, by name."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab, config.width)}
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        shapes |= {prefix + name: shape for name, shape in _layer_shapes(config)}
    shapes["model.norm.weight"] = (config.width,)
    if not config.tied:
        shapes["lm_head.weight"] = (config.vocab, config.width)
    return shapes


def linears_of(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear layers that adapters may change, by name."""
    return {
        name.removesuffix(".weight"): (shape[1], shape[0])
        for name, shape in shapes_of(config).items()
        if len(shape) == 2 and name.startswith("model.layers.")
    }


def check_weights(config: DecoderConfig, checkpoint: Checkpoint) -> None:
    """See that a checkpoint has the weights of a model, and no others.

    Raises:
        ModelLoadError: one is missing, has another shape, or is not known.
    """
    check_shapes(config.architecture, shapes_of(config), checkpoint.shapes, _SPARE)


def load_weights(
    config: DecoderConfig,
    checkpoint: Checkpoint,
    ops: Ops,
    precision: Precision,
    progress: Callable[[float], None],
) -> DecoderWeights:
    """Pack the weights of a model, layer by layer, so that there is never a second copy of all of them.

    Args:
        config: of the model.
        checkpoint: that `check_weights` has approved.
        ops: pack them.
        precision: of the packed ones.
        progress: hears which share is done.
    """
    loader = _Loader(config, checkpoint, ops, precision)
    layers = []
    for layer in range(config.layers):
        layers.append(loader.layer(f"model.layers.{layer}."))
        progress((layer + 1) / (config.layers + 1))
    embeddings = checkpoint.tensor("model.embed_tokens.weight")
    head = embeddings if config.tied else checkpoint.tensor("lm_head.weight")
    weights = DecoderWeights(
        embeddings=_kept(embeddings, ops),
        layers=tuple(layers),
        norm=loader.norm("model.norm"),
        head=ops.pack(head, None, precision),
    )
    progress(1.0)
    return weights


def _kept(embeddings: Tensor, ops: Ops) -> Tensor:
    """A copy in the checkpoint's own type: rows are looked up, not computed with."""
    return torch.empty_like(embeddings, device=ops.device).copy_(embeddings)


class _Loader:
    def __init__(
        self, config: DecoderConfig, checkpoint: Checkpoint, ops: Ops, precision: Precision
    ) -> None:
        self._config = config
        self._checkpoint = checkpoint
        self._ops = ops
        self._precision = precision
        self._wanted = shapes_of(config)

    def layer(self, prefix: str) -> LayerWeights:
        family = self._config.family
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        after = "post_attention_layernorm"
        return LayerWeights(
            norm_in=self.norm(prefix + "input_layernorm"),
            qkv=self._joined(attention, ["qkv_proj"] if family.fused else _QKV),
            norm_queries=self.norm(attention + "q_norm") if family.head_norms else None,
            norm_keys=self.norm(attention + "k_norm") if family.head_norms else None,
            out=self._joined(attention, ["o_proj"]),
            norm_attention=self.norm(prefix + after) if family.gemma else None,
            norm_mlp=self.norm(prefix + ("pre_feedforward_layernorm" if family.gemma else after)),
            gate_up=self._joined(mlp, ["gate_up_proj"] if family.fused else _GATE_UP),
            down=self._joined(mlp, ["down_proj"]),
            norm_out=self.norm(prefix + "post_feedforward_layernorm") if family.gemma else None,
        )

    def norm(self, name: str) -> Tensor:
        weight = self._checkpoint.tensor(f"{name}.weight").float()
        return self._ops.place(weight + 1.0 if self._config.family.gemma else weight)

    def _joined(self, prefix: str, names: list[str]) -> Linear:
        """Several linear layers of the same inputs, as one."""
        weights = [self._checkpoint.tensor(f"{prefix}{name}.weight") for name in names]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        biases = [f"{prefix}{name}.bias" for name in names]
        bias = None
        if biases[0] in self._wanted:
            bias = torch.cat([self._checkpoint.tensor(name) for name in biases])
        return self._ops.pack(weight, bias, self._precision)


def _layer_shapes(config: DecoderConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    norms = ["input_layernorm", "post_attention_layernorm"]
    if config.family.gemma:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for name in norms:
        yield f"{name}.weight", (config.width,)
    if config.family.head_norms:
        yield "self_attn.q_norm.weight", (config.head,)
        yield "self_attn.k_norm.weight", (config.head,)
    queries, keys = config.heads * config.head, config.heads_kv * config.head
    if config.family.fused:
        yield from _linear("self_attn.qkv_proj", queries + 2 * keys, config.width, biased=False)
        yield from _linear("mlp.gate_up_proj", 2 * config.inner, config.width, biased=False)
    else:
        for name, outputs in (("q", queries), ("k", keys), ("v", keys)):
            yield from _linear(f"self_attn.{name}_proj", outputs, config.width, config.qkv_bias)
        for name in _GATE_UP:
            yield from _linear(f"mlp.{name}", config.inner, config.width, config.mlp_bias)
    yield from _linear("self_attn.o_proj", config.width, queries, config.out_bias)
    yield from _linear("mlp.down_proj", config.width, config.inner, config.mlp_bias)


def _linear(
    name: str, outputs: int, inputs: int, biased: bool
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    if biased:
        yield f"{name}.bias", (outputs,)
