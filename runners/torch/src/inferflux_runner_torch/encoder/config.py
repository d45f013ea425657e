"""What an encoder is, as the configuration of a model folder describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from inferflux_core.models.folder.fields import Fields
from inferflux_runner_torch.architecture import architecture_of

__all__ = ["EncoderActivation", "EncoderConfig", "Family", "read_config"]

EncoderActivation = Literal["gelu", "gelu_tanh", "relu", "silu"]

_MAX_LAYERS: Final = 1024
_MAX_WIDTH: Final = 1 << 20
_MAX_VOCAB: Final = 1 << 22
_MAX_POSITIONS: Final = 1 << 24
_MAX_TYPES: Final = 1 << 10
_USUAL_LABELS: Final = 2
_ACTIVATIONS: Final[dict[str, EncoderActivation]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What sets encoders apart.

    Attributes:
        prefix: of the encoder's weights, in models that rank.
        dense: the first linear layer of a score, over the first token's state.
        score: the second one.
        pad: the padding token, whose number and those below it are no positions; None if positions are
            counted from 0.
    """

    prefix: str
    dense: str
    score: str
    pad: int | None


_BERT: Final = Family(prefix="bert.", dense="bert.pooler.dense", score="classifier", pad=None)
_ROBERTA: Final = Family(
    prefix="roberta.", dense="classifier.dense", score="classifier.out_proj", pad=1
)
_FAMILIES: Final = {"Bert": _BERT, "Roberta": _ROBERTA, "XLMRoberta": _ROBERTA}
_EMBEDS: Final = "Model"
_RANKS: Final = "ForSequenceClassification"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Sizes of an encoder.

    Attributes:
        architecture: as Hugging Face calls it.
        family: what sets it apart.
        ranks: whether it scores pairs of texts, and has no embeddings to offer.
        layers: of attention and feed-forward network.
        width: elements of a token's state.
        inner: elements within the feed-forward network.
        heads: of attention.
        vocab: rows of the embeddings of tokens.
        positions: rows of those of positions.
        first_position: of a text.
        types: rows of those that tell a pair's texts apart.
        epsilon: of the norms.
        activation: of the feed-forward network.
    """

    architecture: str
    family: Family
    ranks: bool
    layers: int
    width: int
    inner: int
    heads: int
    vocab: int
    positions: int
    first_position: int
    types: int
    epsilon: float
    activation: EncoderActivation

    @property
    def head(self) -> int:
        """Elements of a head."""
        return self.width // self.heads

    @property
    def context(self) -> int:
        """Tokens of an input that it has positions for."""
        return self.positions - self.first_position


def read_config(config: Fields) -> EncoderConfig:
    """Read a `config.json`.

    Raises:
        ModelLoadError: the family is not known, or the sizes are missing, out of range or contradictory.
    """
    architecture, family, ranks = _family_of(config)
    width = config.integer("hidden_size", None, 1, _MAX_WIDTH)
    heads = config.integer("num_attention_heads", None, 1, _MAX_WIDTH)
    if width % heads:
        raise config.error(f"{width} elements cannot be divided among {heads} heads")
    vocab = config.integer("vocab_size", None, 1, _MAX_VOCAB)
    positions = config.integer("max_position_embeddings", None, 1, _MAX_POSITIONS)
    first = 0
    if family.pad is not None:
        first = config.integer("pad_token_id", family.pad, 0, vocab - 1) + 1
    if first >= positions:
        raise config.error(
            f"of {positions} positions none is left behind that of the padding token, {first - 1}"
        )
    return EncoderConfig(
        architecture=architecture,
        family=family,
        ranks=ranks,
        layers=config.integer("num_hidden_layers", None, 1, _MAX_LAYERS),
        width=width,
        inner=config.integer("intermediate_size", None, 1, _MAX_WIDTH),
        heads=heads,
        vocab=vocab,
        positions=positions,
        first_position=first,
        types=config.integer("type_vocab_size", 2, 1, _MAX_TYPES),
        epsilon=config.number("layer_norm_eps", 1e-12),
        activation=_activation(config),
    )


def _family_of(config: Fields) -> tuple[str, Family, bool]:
    architecture = architecture_of(config)
    known = {
        name + suffix: (family, suffix == _RANKS)
        for name, family in _FAMILIES.items()
        for suffix in (_EMBEDS, _RANKS)
    }
    if architecture not in known:
        raise config.error(
            f"the torch runner has no encoder {architecture[:100]!r}",
            hint=f"it has {', '.join(known)}",
        )
    family, ranks = known[architecture]
    if config.flag("is_decoder", default=False):
        raise config.error("the model is a decoder ('is_decoder'), and not an encoder")
    if (config.text("position_embedding_type") or "absolute") != "absolute":
        raise config.error("only absolute positions are known ('position_embedding_type')")
    if ranks and (labels := _labels(config)) != 1:
        raise config.error(
            f"the model tells {labels} classes apart",
            hint="models that rank have one label, whose number is the score of a document",
        )
    return architecture, family, ranks


def _labels(config: Fields) -> int:
    named = len(config.object("id2label").content)
    return named or config.integer("num_labels", _USUAL_LABELS, 0, 1 << 20)


def _activation(config: Fields) -> EncoderActivation:
    name = config.text("hidden_act") or "gelu"
    if name not in _ACTIVATIONS:
        raise config.error(
            f"the activation {name[:50]!r} is not known",
            hint=f"known are {', '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[name]
