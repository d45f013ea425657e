"""The tokens of a GGUF file, and which of them are special."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gguf.constants import TokenType

from inferflux_gguf.contents import Contents
from inferflux_gguf.to_gguf.special_tokens import KNOWN_ENDS

__all__ = ["Tokens", "read_tokens"]

_PREFIX: Final = "tokenizer.ggml."
_BEGUN: Final = frozenset({"llama-bpe", "llama3", "llama-v3", "falcon3", "tekken"})
"""Byte-level tokenizers that begin texts with a token where the file does not say."""
_MODELS: Final = {"gpt2": "byte-level BPE", "llama": "SentencePiece's BPE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a file says of its tokens.

    Attributes:
        model: `gpt2` for byte-level BPE, `llama` for SentencePiece's.
        pre: llama.cpp's name for how text is cut before byte-level BPE.
        texts: `[tokens]`.
        types: `[tokens]`, llama.cpp's kinds of tokens.
        bos: begins texts, if there is such a token.
        eos: ends texts.
        unknown: stands for what cannot be represented.
        padding: fills batches.
        add_bos: whether texts are begun with `bos`.
        add_eos: whether they are ended with `eos`.
        ends: all tokens that end answers, `eos` first.
    """

    model: str
    pre: str
    texts: list[str]
    types: list[TokenType]
    bos: int | None
    eos: int | None
    unknown: int | None
    padding: int | None
    add_bos: bool
    add_eos: bool
    ends: list[int]

    def text(self, token: int | None) -> str | None:
        """A token as text; None of None."""
        return None if token is None else self.texts[token]


def read_tokens(contents: Contents) -> Tokens:
    """The tokens of a model.

    Raises:
        ModelLoadError: there are none, they contradict each other, or they are of an unknown kind.
    """
    model, pre = (contents.text(f"{_PREFIX}{key}") for key in ("model", "pre"))
    if model not in _MODELS:
        known = " and ".join(f"{name!r} ({what})" for name, what in _MODELS.items())
        raise contents.error(
            f"its tokenizer is of the kind {model[:50]!r}", hint=f"known are {known}"
        )
    texts = contents.strings(f"{_PREFIX}tokens")
    types = _types(contents, len(texts))
    if len(set(texts)) != len(texts):
        raise contents.error("two of its tokens have the same text")
    bos, eos, unknown, padding = (
        _number(contents, key, len(texts)) for key in ("bos", "eos", "unknown", "padding")
    )
    by_bytes = model == "llama"
    add_bos = contents.flag(f"{_PREFIX}add_bos_token", default=by_bytes or pre in _BEGUN)
    add_eos = contents.flag(f"{_PREFIX}add_eos_token", default=False)
    for added, token, key in ((add_bos, bos, "bos"), (add_eos, eos, "eos")):
        if added and token is None:
            raise contents.error(f"texts get a token that {_PREFIX + key + '_token_id'!r} misses")
    more = [_number(contents, key, len(texts)) for key in ("eot", "eom")]
    return Tokens(
        model=model,
        pre=pre,
        texts=texts,
        types=types,
        bos=bos,
        eos=eos,
        unknown=unknown,
        padding=padding,
        add_bos=add_bos,
        add_eos=add_eos,
        ends=_ends([eos, *more], texts, types),
    )


def _types(contents: Contents, count: int) -> list[TokenType]:
    numbers = contents.numbers(f"{_PREFIX}token_type").tolist()
    if not count or len(numbers) != count:
        raise contents.error(f"it has {count} tokens and the types of {len(numbers)}")
    try:
        return [TokenType(number) for number in numbers]
    except ValueError as error:
        raise contents.error(f"a token has an unknown type: {error}") from error


def _number(contents: Contents, key: str, count: int) -> int | None:
    """The number of a special token; -1 is none."""
    number = contents.integer(f"{_PREFIX}{key}_token_id", -1, -1, (1 << 32) - 1)
    if number in (-1, (1 << 32) - 1):
        return None
    if number >= count:
        raise contents.error(f"its token {key!r} is {number}, and it has {count} tokens")
    return number


def _ends(named: list[int | None], texts: list[str], types: list[TokenType]) -> list[int]:
    """Those that the file names, and those where llama.cpp ends answers by their text."""
    known = [
        token
        for token, text in enumerate(texts)
        if text in KNOWN_ENDS and types[token] is TokenType.CONTROL
    ]
    return list(dict.fromkeys(token for token in [*named, *known] if token is not None))
