"""The weights of an encoder, in the form in which they are computed with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from inferflux_runner_torch.checkpoint import FolderCheckpoint
from inferflux_runner_torch.encoder.config import EncoderConfig
from inferflux_runner_torch.ops import Linear, Ops, Precision
from inferflux_runner_torch.shapes import check_shapes

__all__ = ["EncoderWeights", "LayerWeights", "Norm", "check_weights", "load_weights"]

_SPARE: Final = ("pooler.dense.weight", "pooler.dense.bias")
"""For the task that the model was trained on first; its embeddings are pooled without."""
_QKV: Final = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class Norm:
    """Of a layer norm: float32 `[width]` each."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """Of one layer, whose norms come after what they normalise."""

    qkv: Linear
    out: Linear
    norm_attention: Norm
    up: Linear
    down: Linear
    norm_out: Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderWeights:
    """Of a whole model; `head` makes the first token's state a score, in models that rank."""

    tokens: Tensor
    positions: Tensor
    types: Tensor
    norm: Norm
    layers: tuple[LayerWeights, ...]
    head: tuple[Linear, Linear] | None


def check_weights(config: EncoderConfig, checkpoint: FolderCheckpoint) -> None:
    """See that a checkpoint has the weights of a model, and no others.

    Raises:
        ModelLoadError: one is missing, has another shape, or is not known.
    """
    check_shapes(config.architecture, _shapes_of(config), checkpoint.shapes, _SPARE)


def _shapes_of(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    prefix, width = _prefix(config), config.width
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}embeddings.word_embeddings.weight": (config.vocab, width),
        f"{prefix}embeddings.position_embeddings.weight": (config.positions, width),
        f"{prefix}embeddings.token_type_embeddings.weight": (config.types, width),
        **_norm(f"{prefix}embeddings.LayerNorm", width),
    }
    for layer in range(config.layers):
        at = f"{prefix}encoder.layer.{layer}."
        for name in _QKV:
            shapes |= _linear(f"{at}attention.self.{name}", width, width)
        shapes |= _linear(f"{at}attention.output.dense", width, width)
        shapes |= _norm(f"{at}attention.output.LayerNorm", width)
        shapes |= _linear(f"{at}intermediate.dense", config.inner, width)
        shapes |= _linear(f"{at}output.dense", width, config.inner)
        shapes |= _norm(f"{at}output.LayerNorm", width)
    if config.ranks:
        shapes |= _linear(config.family.dense, width, width)
        shapes |= _linear(config.family.score, 1, width)
    return shapes


def load_weights(
    config: EncoderConfig,
    checkpoint: FolderCheckpoint,
    ops: Ops,
    precision: Precision,
    progress: Callable[[float], None],
) -> EncoderWeights:
    """Pack the weights of a model, layer by layer, so that there is never a second copy of all of them.

    Args:
        config: of the model.
        checkpoint: that `check_weights` has approved.
        ops: pack them.
        precision: of the packed ones.
        progress: hears which share is done.
    """
    loader = _Loader(checkpoint, ops, precision)
    prefix = _prefix(config)
    layers = []
    for layer in range(config.layers):
        layers.append(loader.layer(f"{prefix}encoder.layer.{layer}."))
        progress((layer + 1) / (config.layers + 1))
    at = f"{prefix}embeddings."
    family = config.family
    weights = EncoderWeights(
        tokens=loader.kept(f"{at}word_embeddings.weight"),
        positions=loader.kept(f"{at}position_embeddings.weight"),
        types=loader.kept(f"{at}token_type_embeddings.weight"),
        norm=loader.norm(f"{at}LayerNorm"),
        layers=tuple(layers),
        head=(loader.linear(family.dense), loader.linear(family.score)) if config.ranks else None,
    )
    progress(1.0)
    return weights


class _Loader:
    def __init__(self, checkpoint: FolderCheckpoint, ops: Ops, precision: Precision) -> None:
        self._checkpoint = checkpoint
        self._ops = ops
        self._precision = precision

    def layer(self, prefix: str) -> LayerWeights:
        return LayerWeights(
            qkv=self.linear(*(f"{prefix}attention.self.{name}" for name in _QKV)),
            out=self.linear(f"{prefix}attention.output.dense"),
            norm_attention=self.norm(f"{prefix}attention.output.LayerNorm"),
            up=self.linear(f"{prefix}intermediate.dense"),
            down=self.linear(f"{prefix}output.dense"),
            norm_out=self.norm(f"{prefix}output.LayerNorm"),
        )

    def linear(self, *names: str) -> Linear:
        """Linear layers of the same inputs, as one."""
        weight, bias = (
            torch.cat([self._checkpoint.tensor(f"{name}.{kind}") for name in names])
            for kind in ("weight", "bias")
        )
        return self._ops.pack(weight, bias, self._precision)

    def norm(self, name: str) -> Norm:
        weight, bias = (
            self._ops.place(self._checkpoint.tensor(f"{name}.{kind}").float())
            for kind in ("weight", "bias")
        )
        return Norm(weight, bias)

    def kept(self, name: str) -> Tensor:
        """A copy in the checkpoint's own type: rows are looked up, not computed with."""
        stored = self._checkpoint.tensor(name)
        return torch.empty_like(stored, device=self._ops.device).copy_(stored)


def _prefix(config: EncoderConfig) -> str:
    return config.family.prefix if config.ranks else ""


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
