"""The model families that can be converted: what sets them apart, and which weights they have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from gguf.constants import MODEL_ARCH

from inferflux_core.models.folder.fields import Fields
from inferflux_gguf.to_gguf.dimensions import Dimensions

__all__ = ["Family", "Weight", "family_of", "weights_of"]

_REMOTE: Final = (
    "code from a model's folder is never executed; if the model is an ordinary one of its family, "
    "remove `auto_map` from config.json"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What llama.cpp needs to know of a family.

    Attributes:
        arch: llama.cpp's name for it.
        activation: the only one that llama.cpp computes for it.
        rotates_neighbours: whether llama.cpp rotates elements `2i` and `2i + 1` of a head, where Hugging Face
            rotates `i` and `i + head / 2`: the rows of queries and keys change places.
        attention_bias: whether queries, keys and values have one; None is as the config says.
        output_biases: whether the config may ask for biases elsewhere.
        head_norms: whether the heads of queries and keys are normalised.
        norms_after: whether attention and feed-forward network are followed by norms too.
        norm_shift: what is added to the weights of norms.
        free_heads: whether a head's width may differ from its share of the state.
        tied: whether embeddings and output share weights where the config does not say.
        fused: whether queries, keys and values are made by one weight, and both sides of the gate by another.
        partly_rotated: whether only a part of each head may be rotated.
        windowed: whether a `sliding_window` counts where nothing else is said of it.
    """

    arch: MODEL_ARCH
    activation: str = "silu"
    rotates_neighbours: bool = False
    attention_bias: bool | None = False
    output_biases: bool = False
    head_norms: bool = False
    norms_after: bool = False
    norm_shift: float = 0.0
    free_heads: bool = True
    tied: bool = False
    fused: bool = False
    partly_rotated: bool = False
    windowed: bool = False


_LLAMA: Final = Family(
    arch=MODEL_ARCH.LLAMA, rotates_neighbours=True, attention_bias=None, output_biases=True
)
_FAMILIES: Final = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": replace(_LLAMA, windowed=True),
    "Qwen2ForCausalLM": Family(arch=MODEL_ARCH.QWEN2, attention_bias=True, free_heads=False),
    "Qwen3ForCausalLM": Family(arch=MODEL_ARCH.QWEN3, head_norms=True),
    "Gemma3ForCausalLM": Family(
        arch=MODEL_ARCH.GEMMA3,
        activation="gelu_pytorch_tanh",
        head_norms=True,
        norms_after=True,
        norm_shift=1.0,
        tied=True,
    ),
    "Phi3ForCausalLM": Family(
        arch=MODEL_ARCH.PHI3, free_heads=False, fused=True, partly_rotated=True, windowed=True
    ),
}


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight that a model must have.

    Attributes:
        name: as Hugging Face has it.
        shape: outermost dimension first.
        heads: if not 0, its rows belong to so many heads, and change places within them.
        shift: what is added to its elements.
    """

    name: str
    shape: tuple[int, ...]
    heads: int = 0
    shift: float = 0.0


def family_of(config: Fields) -> Family:
    """The family of a model.

    Raises:
        ModelLoadError: it is unknown, or the model is none that llama.cpp would compute alike.
    """
    names = config.array("architectures")
    if len(names) != 1 or not isinstance(names[0], str):
        raise config.error("'architectures' must name one architecture")
    family = _FAMILIES.get(names[0])
    if family is None:
        raise config.error(
            f"models of the architecture {names[0][:100]!r} cannot be converted",
            hint=f"known are {', '.join(_FAMILIES)}; convert others with llama.cpp's "
            "`convert_hf_to_gguf.py`",
        )
    if config.get("auto_map") is not None:
        raise config.error("the model comes with code of its own ('auto_map')", hint=_REMOTE)
    if config.get("quantization_config") is not None:
        raise config.error(
            "the weights are quantized already",
            hint="use the model's original weights, and quantize the GGUF file",
        )
    _check_computation(config, family)
    return family


def _check_computation(config: Fields, family: Family) -> None:
    """Refuse what llama.cpp would compute in another way."""
    for key in ("hidden_act", "hidden_activation"):
        if (found := config.text(key) or family.activation) != family.activation:
            raise config.error(
                f"{key!r} is {found[:50]!r}; llama.cpp has {family.activation!r} here"
            )
    unusual = [("is_causal", True)] + [("partial_rotary_factor", 1)] * (not family.partly_rotated)
    for key, wanted in unusual:
        if (value := config.get(key)) is not None and value != wanted:
            raise config.error(f"llama.cpp cannot compute this family with {key!r}")
    if config.get("attn_logit_softcapping") is not None:
        raise config.error("llama.cpp cannot compute this family with 'attn_logit_softcapping'")
    if family.attention_bias is False and config.flag("attention_bias", default=False):
        raise config.error("llama.cpp cannot compute this family with 'attention_bias'")


def weights_of(family: Family, dims: Dimensions, config: Fields) -> Iterator[Weight]:
    """All weights of a model, in the order in which they are written.

    Raises:
        ModelLoadError: the config contradicts itself.
    """
    if not family.free_heads and dims.head * dims.heads != dims.width:
        raise config.error(f"{dims.heads} heads of {dims.head} elements do not make {dims.width}")
    shift = family.norm_shift
    embeddings = (dims.vocab, dims.width)
    yield Weight("model.embed_tokens.weight", embeddings)
    for layer in range(dims.layers):
        for weight in _layer(family, dims, config):
            name = f"model.layers.{layer}.{weight.name}"
            yield Weight(name, weight.shape, weight.heads, weight.shift)
    yield Weight("model.norm.weight", (dims.width,), shift=shift)
    if not config.flag("tie_word_embeddings", default=family.tied):
        yield Weight("lm_head.weight", embeddings)


def _layer(family: Family, dims: Dimensions, config: Fields) -> Iterator[Weight]:
    norms = ["input_layernorm", "post_attention_layernorm"]
    if family.norms_after:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for name in norms:
        yield Weight(f"{name}.weight", (dims.width,), shift=family.norm_shift)
    if family.head_norms:
        for name in ("q_norm", "k_norm"):
            yield Weight(f"self_attn.{name}.weight", (dims.head,), shift=family.norm_shift)
    yield from (_fused(dims) if family.fused else _apart(family, dims, config))


def _fused(dims: Dimensions) -> Iterator[Weight]:
    rows = (dims.heads + 2 * dims.heads_kv) * dims.head
    yield from _linear("self_attn.qkv_proj", rows, dims.width, biased=False)
    yield from _linear("self_attn.o_proj", dims.width, dims.heads * dims.head, biased=False)
    yield from _linear("mlp.gate_up_proj", 2 * dims.inner, dims.width, biased=False)
    yield from _linear("mlp.down_proj", dims.width, dims.inner, biased=False)


def _apart(family: Family, dims: Dimensions, config: Fields) -> Iterator[Weight]:
    biased = family.attention_bias
    if biased is None:
        biased = config.flag("attention_bias", default=False)
    output_biased = family.output_biases and biased
    rotated = family.rotates_neighbours
    for letter, heads, moved in (
        ("q", dims.heads, rotated),
        ("k", dims.heads_kv, rotated),
        ("v", dims.heads_kv, False),
    ):
        name, rows = f"self_attn.{letter}_proj", heads * dims.head
        yield from _linear(name, rows, dims.width, biased, heads if moved else 0)
    yield from _linear("self_attn.o_proj", dims.width, dims.heads * dims.head, output_biased)
    inner_biased = family.output_biases and config.flag("mlp_bias", default=False)
    yield from _linear("mlp.gate_proj", dims.inner, dims.width, inner_biased)
    yield from _linear("mlp.up_proj", dims.inner, dims.width, inner_biased)
    yield from _linear("mlp.down_proj", dims.width, dims.inner, inner_biased)


def _linear(name: str, rows: int, columns: int, biased: bool, heads: int = 0) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", (rows, columns), heads)
    if biased:
        yield Weight(f"{name}.bias", (rows,), heads)
