"""What a decoder is, as the configuration of a model folder describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inferflux_core.models.folder.fields import Fields
from inferflux_runner_torch.decoder.families import Family, family_of
from inferflux_runner_torch.decoder.rotary import Rotary, read_rotary, usable_context
from inferflux_runner_torch.ops import Activation

__all__ = ["DecoderConfig", "read_config"]

_MAX_LAYERS: Final = 1024
_MAX_WIDTH: Final = 1 << 20
_MAX_VOCAB: Final = 1 << 22
_MAX_CONTEXT: Final = 1 << 30
_ACTIVATIONS: Final[dict[str, Activation]] = {
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
}
_GEMMA_PATTERN: Final = 6
"""Every sixth layer of Gemma 3 sees everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """Sizes of a decoder, and what sets it apart from others.

    Attributes:
        architecture: as Hugging Face calls it.
        family: what its layers are made of.
        layers: of attention and feed-forward network.
        width: elements of a token's state.
        inner: elements within the feed-forward network.
        heads: of queries.
        heads_kv: of keys and values.
        head: elements of a head.
        vocab: rows of the embeddings.
        context: tokens that it computes as it was trained.
        epsilon: of the norms.
        activation: of the feed-forward network.
        qkv_bias: whether queries, keys and values have a bias.
        out_bias: whether what attention returns has one.
        mlp_bias: whether the feed-forward network has them.
        tied: whether the output shares the embeddings' weights.
        embedding_scale: of embeddings.
        attention_scale: of products of queries and keys.
        windows: tokens that each layer sees; None for all.
        rotaries: positions of layers without and with a window; the same one twice in most models.
        logit_cap: bound that logits approach; None for none.
    """

    architecture: str
    family: Family
    layers: int
    width: int
    inner: int
    heads: int
    heads_kv: int
    head: int
    vocab: int
    context: int
    epsilon: float
    activation: Activation
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    tied: bool
    embedding_scale: float
    attention_scale: float
    windows: tuple[int | None, ...]
    rotaries: tuple[Rotary, Rotary]
    logit_cap: float | None

    def rotary(self, layer: int) -> Rotary:
        """Of a layer."""
        return self.rotaries[self.windows[layer] is not None]


def read_config(config: Fields) -> DecoderConfig:
    """Read a `config.json`.

    Raises:
        ModelLoadError: the family is not known, or the sizes are missing, out of range or contradictory.
    """
    architecture, family = family_of(config)
    width = config.integer("hidden_size", None, 1, _MAX_WIDTH)
    heads = config.integer("num_attention_heads", None, 1, _MAX_WIDTH)
    heads_kv = config.integer("num_key_value_heads", heads, 1, _MAX_WIDTH)
    if heads % heads_kv:
        raise config.error(f"{heads} heads cannot share {heads_kv} key-value heads equally")
    if config.get("head_dim") is None and width % heads:
        raise config.error(f"{width} elements cannot be divided among {heads} heads")
    head = config.integer("head_dim", width // heads or None, 2, _MAX_WIDTH)
    if head % 2:
        raise config.error("a head needs an even number of elements, which are rotated in pairs")
    layers = config.integer("num_hidden_layers", None, 1, _MAX_LAYERS)
    context = config.integer("max_position_embeddings", None, 1, _MAX_CONTEXT)
    attention_bias = config.flag("attention_bias", default=False)
    scalar = config.number("query_pre_attn_scalar", head) if family.gemma else float(head)
    cap = config.get("final_logit_softcapping")
    return DecoderConfig(
        architecture=architecture,
        family=family,
        layers=layers,
        width=width,
        inner=config.integer("intermediate_size", None, 1, _MAX_WIDTH),
        heads=heads,
        heads_kv=heads_kv,
        head=head,
        vocab=config.integer("vocab_size", None, 1, _MAX_VOCAB),
        context=usable_context(config, family, context),
        epsilon=config.number("rms_norm_eps", 1e-6),
        activation=_activation(config, family),
        qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
        out_bias=family.qkv_bias is None and attention_bias,
        mlp_bias=family.mlp_bias and config.flag("mlp_bias", default=False),
        tied=config.flag("tie_word_embeddings", default=family.tied),
        embedding_scale=width**0.5 if family.gemma else 1.0,
        attention_scale=scalar**-0.5,
        windows=_windows(config, family, layers),
        rotaries=read_rotary(config, family, head, context),
        logit_cap=None if cap is None else config.number("final_logit_softcapping", None),
    )


def _activation(config: Fields, family: Family) -> Activation:
    name = config.text("hidden_activation") or config.text("hidden_act") or family.activation
    if name not in _ACTIVATIONS:
        raise config.error(
            f"the activation {name[:50]!r} is not known",
            hint=f"known are {', '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[name]


def _windows(config: Fields, family: Family, layers: int) -> tuple[int | None, ...]:
    """Of each layer; most models have none, or use the one they have only if they are told to."""
    used = family.windowed or config.flag("use_sliding_window", default=False)
    if config.get("sliding_window") is None or not used:
        if family.gemma:
            raise config.error("'sliding_window' is missing")
        return (None,) * layers
    window = config.integer("sliding_window", None, 1, _MAX_CONTEXT)
    return tuple(window if sliding else None for sliding in _sliding(config, family, layers))


def _sliding(config: Fields, family: Family, layers: int) -> list[bool]:
    kinds = config.array("layer_types")
    if kinds:
        known = {"sliding_attention": True, "full_attention": False}
        if len(kinds) != layers or not all(isinstance(k, str) and k in known for k in kinds):
            raise config.error(f"'layer_types' must name one of {', '.join(known)} for each layer")
        return [known[kind] for kind in kinds]
    if family.gemma:
        key = "sliding_window_pattern"
        pattern = config.integer(key, config.integer(f"_{key}", _GEMMA_PATTERN, 1, 512), 1, 512)
        return [(layer + 1) % pattern != 0 for layer in range(layers)]
    if family.windowed:
        return [True] * layers
    first = config.integer("max_window_layers", layers, 0, _MAX_LAYERS)
    return [layer >= first for layer in range(layers)]
