"""The layers of BERT and its kin (arXiv:1810.04805, arXiv:1907.11692), over texts without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from inferflux_runner_torch.encoder.config import EncoderActivation, EncoderConfig
from inferflux_runner_torch.encoder.weights import EncoderWeights, LayerWeights, Norm
from inferflux_runner_torch.ops import Ops

__all__ = ["Encoder"]

_ACTIVATIONS: Final[dict[EncoderActivation, Callable[[Tensor], Tensor]]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}


class Encoder:
    """A model that turns tokens into states, each of which knows the whole text.

    Args:
        config: what it is.
        weights: of it.
        ops: that they were packed by.
    """

    def __init__(self, config: EncoderConfig, weights: EncoderWeights, ops: Ops) -> None:
        self._config = config
        self._weights = weights
        self._ops = ops
        self._activate = _ACTIVATIONS[config.activation]

    def states(self, token_ids: Tensor, types: Tensor, lengths: Sequence[int]) -> Tensor:
        """Run the layers.

        Args:
            token_ids: int64 `[rows]`: those of all texts, one text behind the other.
            types: int64 `[rows]`: which text of a pair a token belongs to, 0 or 1.
            lengths: tokens of each text.

        Returns:
            `[rows, width]`.
        """
        weights, first = self._weights, self._config.first_position
        positions = torch.cat([torch.arange(first, first + length) for length in lengths])
        state = (
            weights.tokens[token_ids].float()
            + weights.positions[positions.to(token_ids.device)].float()
            + weights.types[types].float()
        )
        state = self._normalise(state, weights.norm)
        for layer in weights.layers:
            state = self._normalise(
                state + self._attention(layer, state, lengths), layer.norm_attention
            )
            inner = self._activate(layer.up(state))
            state = self._normalise(state + layer.down(inner), layer.norm_out)
        return state

    def scores(self, first: Tensor) -> Tensor:
        """float32 `[texts, 1]` from the states of their first tokens, `[texts, width]`."""
        assert self._weights.head is not None
        dense, score = self._weights.head
        return score(torch.tanh(dense(first))).float()

    def _attention(self, layer: LayerWeights, state: Tensor, lengths: Sequence[int]) -> Tensor:
        """Each text by itself: none is longer for the sake of another."""
        config = self._config
        # [heads, 3, rows, head]
        joined = layer.qkv(state).view(-1, 3, config.heads, config.head).transpose(0, 2)
        found = []
        for text in torch.split(joined, list(lengths), dim=2):
            queries, keys, values = text.unsqueeze(0).unbind(2)
            found.append(functional.scaled_dot_product_attention(queries, keys, values))
        mixed = torch.cat(found, dim=2)[0].transpose(0, 1)
        return layer.out(mixed.reshape(-1, config.width))

    def _normalise(self, rows: Tensor, norm: Norm) -> Tensor:
        wide = functional.layer_norm(
            rows.float(), (self._config.width,), norm.weight, norm.bias, self._config.epsilon
        )
        return wide.to(self._ops.dtype)
