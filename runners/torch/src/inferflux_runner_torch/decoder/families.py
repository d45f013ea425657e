"""The model families, and what sets their layers apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inferflux_core.models.folder.fields import Fields

__all__ = ["FAMILIES", "Family", "family_of"]

_REMOTE: Final = (
    "code from a model's folder is never executed; if the model is an ordinary one of its family, "
    "remove `auto_map` from config.json"
)


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
    names = config.array("architectures")
    if len(names) != 1 or not isinstance(names[0], str):
        raise config.error("'architectures' must name one architecture")
    family = FAMILIES.get(names[0])
    if family is None:
        raise config.error(
            f"the torch runner has no architecture {names[0][:100]!r}",
            hint=f"it has {', '.join(FAMILIES)}",
        )
    if config.get("auto_map") is not None:
        raise config.error("the model comes with code of its own ('auto_map')", hint=_REMOTE)
    if config.get("quantization_config") is not None:
        raise config.error(
            "the weights are quantized already", hint="use the model's original weights"
        )
    if config.get("attn_logit_softcapping") is not None:
        raise config.error("'attn_logit_softcapping' is not known in this family")
    if config.flag("use_bidirectional_attention", default=False):
        raise config.error("the model sees later tokens too, and cannot continue texts")
    if not config.flag("is_causal", default=True):
        raise config.error("the model is not causal, and cannot continue texts")
    return names[0], family
