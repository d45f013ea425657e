"""The model families, and what sets their layers apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inferflux_core.models.folder.fields import Fields
from inferflux_runner_torch.architecture import architecture_of

__all__ = ["FAMILIES", "Family", "family_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a decoder's layers are made of.

    Attributes:
        activation: where the config names none.
        qkv_bias: whether queries, keys and values have a bias; None is as the config says, for the output
            too.
        mlp_bias: whether the config may ask for biases in the feed-forward network.
        head_norms: whether the heads of queries and keys are normalised.
        fused: whether one weight makes queries, keys and values, and one both sides of the gate.
        windowed: whether a `sliding_window` counts where nothing else is said of it.
        partly_rotated: whether only a part of each head may be rotated.
        gemma: norms after attention and feed-forward network too, all stored less one; embeddings and
            attention with scales of their own; other positions in layers with a window.
        tied: whether the output shares the embeddings' weights where the config does not say.
    """

    activation: str = "silu"
    qkv_bias: bool | None = False
    mlp_bias: bool = False
    head_norms: bool = False
    fused: bool = False
    windowed: bool = False
    partly_rotated: bool = False
    gemma: bool = False
    tied: bool = False


FAMILIES: Final = {
    "LlamaForCausalLM": Family(qkv_bias=None, mlp_bias=True),
    "MistralForCausalLM": Family(windowed=True),
    "Qwen2ForCausalLM": Family(qkv_bias=True),
    "Qwen3ForCausalLM": Family(qkv_bias=None, head_norms=True),
    "Gemma3ForCausalLM": Family(
        activation="gelu_pytorch_tanh",
        qkv_bias=None,
        head_norms=True,
        windowed=True,
        gemma=True,
        tied=True,
    ),
    "Phi3ForCausalLM": Family(fused=True, windowed=True, partly_rotated=True),
}
"""By the name of the architecture. SmolLM is a Llama."""


def family_of(config: Fields) -> tuple[str, Family]:
    """The architecture of a model, and its family.

    Raises:
        ModelLoadError: it is not known, or the model is not an ordinary one of its family.
    """
    architecture = architecture_of(config)
    family = FAMILIES.get(architecture)
    if family is None:
        raise config.error(
            f"the torch runner has no architecture {architecture[:100]!r}",
            hint=f"it has {', '.join(FAMILIES)}",
        )
    if config.get("attn_logit_softcapping") is not None:
        raise config.error("'attn_logit_softcapping' is not known in this family")
    if config.flag("use_bidirectional_attention", default=False):
        raise config.error("the model sees later tokens too, and cannot continue texts")
    if not config.flag("is_causal", default=True):
        raise config.error("the model is not causal, and cannot continue texts")
    return architecture, family
