"""The sizes of a model, as its `config.json` gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inferflux_core.models.folder.fields import Fields
from inferflux_gguf.metadata import MAX_WIDTH

__all__ = ["Dimensions", "read_dimensions"]

_MAX_LAYERS: Final = 512  # llama.cpp asserts it
_MAX_CONTEXT: Final = 1 << 30
_MAX_VOCAB: Final = 1 << 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """Sizes that shapes follow from.

    Attributes:
        layers: transformer blocks.
        width: elements of a token's state.
        inner: elements within the feed-forward network.
        heads: of queries.
        heads_kv: of keys and values.
        head: elements of a head.
        vocab: rows of the embeddings.
        context: tokens that the model was trained for.
        epsilon: of the RMS norms.
    """

    layers: int
    width: int
    inner: int
    heads: int
    heads_kv: int
    head: int
    vocab: int
    context: int
    epsilon: float


def read_dimensions(config: Fields) -> Dimensions:
    """The sizes; that the weights have them is checked with the weights.

    Raises:
        ModelLoadError: one is missing, out of range, or contradicts another.
    """
    width = config.integer("hidden_size", None, 1, MAX_WIDTH)
    heads = config.integer("num_attention_heads", None, 1, MAX_WIDTH)
    heads_kv = config.integer("num_key_value_heads", heads, 1, MAX_WIDTH)
    if heads % heads_kv:
        raise config.error(f"{heads} heads cannot share {heads_kv} key-value heads equally")
    if config.get("head_dim") is None and width % heads:
        raise config.error(f"{width} elements cannot be divided among {heads} heads")
    head = config.integer("head_dim", width // heads or None, 2, MAX_WIDTH)
    if head % 2:
        raise config.error("a head needs an even number of elements, which are rotated in pairs")
    return Dimensions(
        layers=config.integer("num_hidden_layers", None, 1, _MAX_LAYERS),
        width=width,
        inner=config.integer("intermediate_size", None, 1, MAX_WIDTH),
        heads=heads,
        heads_kv=heads_kv,
        head=head,
        vocab=config.integer("vocab_size", None, 1, _MAX_VOCAB),
        context=config.integer("max_position_embeddings", None, 1, _MAX_CONTEXT),
        epsilon=config.number("rms_norm_eps", 1e-6),
    )
