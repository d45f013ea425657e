"""The tokens of a `tokenizer.json`, as llama.cpp wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gguf.constants import TokenType
from gguf.gguf_writer import GGUFWriter

from inferflux_core.models.folder.fields import Fields
from inferflux_gguf.to_gguf.merges import Merge, read_merges, scores_of
from inferflux_gguf.to_gguf.pre_tokenizers import pre_tokenizer_of
from inferflux_gguf.to_gguf.spaces import adds_space

__all__ = ["NOT_STRIPPED", "Vocabulary", "read_vocabulary", "strips_spaces"]

_SPACE: Final = "▁"
_BYTES: Final = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_MAX_ID: Final = 1 << 21
_PHI: Final = "phi-3"
NOT_STRIPPED: Final = frozenset({"<unk>", "<s>", "<|endoftext|>"})
"""In a model that is called Phi-3, llama.cpp drops spaces behind every special token but these."""
_HINT: Final = "known are byte-level BPE, and SentencePiece's BPE with bytes as fall-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Tokens and how text becomes them.

    Attributes:
        model: `gpt2` for byte-level BPE, `llama` for SentencePiece's.
        pre: how text is cut before.
        tokens: `[vocab]`.
        types: `[vocab]`, llama.cpp's kinds of tokens.
        ids: of the tokens, by their text in `tokenizer.json`.
        merges: of byte-level BPE.
        scores: `[vocab]`, of SentencePiece's; those of merged tokens fall with the order of merges.
        space_prefix: whether SentencePiece's puts a space before texts.
        stripped: whether spaces behind special tokens are dropped, as in Phi-3.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[TokenType]
    ids: dict[str, int]
    merges: list[Merge]
    scores: list[float]
    space_prefix: bool
    stripped: bool

    def describe(self, writer: GGUFWriter) -> None:
        """Add it to a file's metadata."""
        if self.stripped:
            writer.add_name(_PHI)
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.model == "llama":
            writer.add_token_scores(self.scores)
        else:
            writer.add_token_merges([f"{left} {right}" for left, right in self.merges])
        writer.add_add_space_prefix(self.space_prefix)


@dataclass(frozen=True, slots=True)
class _Added:
    """A token that is found in text before anything else."""

    id: int
    text: str
    special: bool
    stripped: bool


def read_vocabulary(tokenizer: Fields, size: int) -> Vocabulary:
    """The vocabulary of a model.

    Args:
        tokenizer: the content of `tokenizer.json`.
        size: rows of the model's embeddings; there may be more than tokens.

    Raises:
        ModelLoadError: llama.cpp would make other tokens of a text.
    """
    model = tokenizer.object("model")
    _check_model(tokenizer, model)
    vocab = _vocab(model, size)
    added = _added(tokenizer, size)
    tokens, types = _tokens(tokenizer, vocab, added, size)
    merges = read_merges(model, vocab)
    by_bytes = model.flag("byte_fallback", default=False)
    scores: list[float] = []
    if by_bytes:
        _mark_bytes(model, vocab, types)
        apart = _BYTES.union(token.text for token in added)
        scores = scores_of(
            model, tokens, merges, vocab, [text for text in vocab if text not in apart]
        )
    return Vocabulary(
        model="llama" if by_bytes else "gpt2",
        pre="default" if by_bytes else pre_tokenizer_of(tokenizer),
        tokens=tokens,
        types=types,
        ids=vocab | {token.text: token.id for token in added},
        merges=merges,
        scores=scores,
        space_prefix=adds_space(tokenizer) if by_bytes else False,
        stripped=_strips(tokenizer, vocab, added),
    )


def strips_spaces(name: str) -> bool:
    """Whether llama.cpp drops spaces behind special tokens in a model of this name."""
    return any(part in name.lower() for part in (_PHI, "phi3"))


def _mark_bytes(model: Fields, vocab: dict[str, int], types: list[TokenType]) -> None:
    unknown = model.text("unk_token")
    if unknown in vocab:
        types[vocab[unknown]] = TokenType.UNKNOWN
    for text in _BYTES:
        # llama.cpp ends the process where it needs one that is not there.
        if text not in vocab:
            raise model.error(f"it has no token {text!r} for a byte", hint=_HINT)
        types[vocab[text]] = TokenType.BYTE


def _check_model(tokenizer: Fields, model: Fields) -> None:
    kind = model.text("type")
    if kind != "BPE":
        raise tokenizer.error(f"the tokenizer is of the kind {kind[:50]!r}", hint=_HINT)
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise model.error(f"llama.cpp's tokenizer has no {key!r}", hint=_HINT)
    if tokenizer.get("truncation") or tokenizer.get("padding"):
        raise tokenizer.error("it truncates or pads what it is given", hint="turn both off in it")


def _vocab(model: Fields, size: int) -> dict[str, int]:
    vocab = dict(model.object("vocab").content)
    if not all(type(id_) is int and 0 <= id_ < size for id_ in vocab.values()):
        raise model.error(f"it has tokens that are not among the {size} of the model's embeddings")
    if len(set(vocab.values())) != len(vocab):
        raise model.error("two of its tokens have the same number")
    return vocab


def _added(tokenizer: Fields, size: int) -> list[_Added]:
    found = []
    for entry in tokenizer.objects("added_tokens"):
        id_, text = entry.integer("id", None, 0, _MAX_ID), entry.text("content")
        special = entry.flag("special", default=False)
        for key in ("lstrip", "single_word"):
            if entry.flag(key, default=False):
                raise entry.error(f"llama.cpp finds no tokens by {key!r}, as {text[:100]!r} wants")
        if id_ < size:
            stripped = entry.flag("rstrip", default=False)
            found.append(_Added(id_, text, special, stripped))
        elif not special:
            raise entry.error(f"{text[:100]!r} is not among the {size} of the model's embeddings")
        # A special token without an embedding, as for images in models without eyes, is never used.
    return found


def _strips(tokenizer: Fields, vocab: dict[str, int], added: list[_Added]) -> bool:
    """Whether spaces behind special tokens are dropped; llama.cpp can do so as Phi-3 does, or never."""
    stripped = {token.text for token in added if token.stripped}
    if not stripped:
        return False
    known = vocab.keys() | {token.text for token in added}
    if stripped != {token.text for token in added} - NOT_STRIPPED or not (
        NOT_STRIPPED | {"</s>"} <= known
    ):
        text = min(stripped)
        raise tokenizer.error(f"llama.cpp finds no tokens by 'rstrip', as {text[:100]!r} wants")
    return True


def _tokens(
    tokenizer: Fields, vocab: dict[str, int], added: list[_Added], size: int
) -> tuple[list[str], list[TokenType]]:
    # Rows of the embeddings that are there for alignment only.
    tokens = [f"[PAD{id_}]" for id_ in range(size)]
    types = [TokenType.UNUSED] * size
    for text, id_ in vocab.items():
        tokens[id_], types[id_] = text, TokenType.NORMAL
    for token in added:
        if types[token.id] is not TokenType.UNUSED and tokens[token.id] != token.text:
            raise tokenizer.error(
                f"token {token.id} is both {tokens[token.id]!r} and {token.text!r}"
            )
        # llama.cpp looks for these in the text as it is, before spaces become something else.
        tokens[token.id] = token.text if token.special else token.text.replace(_SPACE, " ")
        types[token.id] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    _check_texts(tokenizer, tokens)
    return tokens, types


def _check_texts(tokenizer: Fields, tokens: list[str]) -> None:
    """llama.cpp ends the process where two tokens are the same to it, and C strings end with a NUL."""
    if len(set(tokens)) != len(tokens):
        raise tokenizer.error("two of its tokens have the same text")
    if any(not text or "\0" in text for text in tokens):
        raise tokenizer.error("it has tokens that are empty or hold a NUL")
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError as error:
        raise tokenizer.error("it has tokens that are no Unicode") from error
