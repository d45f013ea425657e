"""A `tokenizer.json` that makes the tokens that llama.cpp makes of a GGUF file's vocabulary."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from gguf.constants import TokenType

from inferflux_gguf.contents import Contents
from inferflux_gguf.to_folder.tokens import Tokens
from inferflux_gguf.to_gguf.pre_tokenizers import BYTE_LEVEL, cuts_of
from inferflux_gguf.to_gguf.spaces import SPACE, spaces_for
from inferflux_gguf.to_gguf.vocabulary import NOT_STRIPPED, strips_spaces

__all__ = ["make_tokenizer"]

_BYTES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))
_ADDED: Final = frozenset({TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN})
_PADDING: Final = re.compile(r"\[PAD\d+\]")


def make_tokenizer(contents: Contents, tokens: Tokens) -> dict[str, Any]:
    """The content of a `tokenizer.json`.

    Raises:
        ModelLoadError: text is cut in an unknown way, or merges and tokens do not fit together.
    """
    vocab = {
        text: id_
        for id_, (text, kind) in enumerate(zip(tokens.texts, tokens.types, strict=True))
        if kind is not TokenType.UNUSED or not _PADDING.fullmatch(text)
    }
    make = _byte_level if tokens.model == "gpt2" else _sentencepiece
    stripped = strips_spaces(contents.text("general.name"))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(
                id_,
                text,
                special=tokens.types[id_] is not TokenType.USER_DEFINED,
                stripped=stripped and text not in NOT_STRIPPED,
            )
            for text, id_ in vocab.items()
            if tokens.types[id_] in _ADDED
        ],
        "post_processor": _around(tokens),
        **make(contents, tokens, vocab),
    }


def _byte_level(contents: Contents, tokens: Tokens, vocab: dict[str, int]) -> dict[str, Any]:
    cuts = cuts_of(tokens.pre)
    if cuts is None:
        raise contents.error(
            f"text is cut in a way that is called {tokens.pre[:50]!r}",
            hint="no `tokenizer.json` is known that does the same; use the authors' own folder",
        )
    pre_tokenizer, whole = cuts
    key = "tokenizer.ggml.merges"
    # A space may be the first letter of a merge, but not of a byte-level one's second half.
    merges = [merge.partition(" ")[::2] for merge in contents.strings(key)]
    for left, right in merges:
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise contents.error(f"the merge of {left[:100]!r} and {right[:100]!r} is no token")
    return {
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "decoder": BYTE_LEVEL,
        "model": _bpe(vocab, merges, whole=whole),
    }


def _sentencepiece(contents: Contents, tokens: Tokens, vocab: dict[str, int]) -> dict[str, Any]:
    for text in _BYTES:
        if text not in vocab:
            raise contents.error(f"it has no token {text!r} for a byte")
    scores = contents.numbers("tokenizer.ggml.scores")
    if scores.dtype != np.float32 or len(scores) != len(tokens.texts):
        raise contents.error("its tokens have no scores ('tokenizer.ggml.scores')")
    prefixed = contents.flag("tokenizer.ggml.add_space_prefix", default=True)
    normal = [id_ for id_, kind in enumerate(tokens.types) if kind is TokenType.NORMAL]
    known = {tokens.texts[id_] for id_ in normal}
    # The highest score first; of equal ones, the token that comes first.
    ranked = sorted(normal, key=lambda id_: -float(scores[id_]))
    merges = [
        (text[:cut], text[cut:])
        for text in (tokens.texts[id_] for id_ in ranked)
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]
    replaced: dict[str, Any] = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    decoders = [replaced, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefixed:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = tokens.text(tokens.unknown)
    return {
        **spaces_for(prefixed=prefixed),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(vocab, merges, whole=False)
        | {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True},
    }


def _bpe(vocab: dict[str, int], merges: list[Any], *, whole: bool) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": whole,
        "vocab": vocab,
        "merges": merges,
    }


def _added(id_: int, text: str, *, special: bool, stripped: bool) -> dict[str, Any]:
    return {
        "id": id_,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": stripped,
        "normalized": False,
        "special": special,
    }


def _around(tokens: Tokens) -> dict[str, Any] | None:
    """What is put before and after a text."""
    before = [tokens.bos] if tokens.add_bos else []
    after = [tokens.eos] if tokens.add_eos else []
    if not before and not after:
        return None

    def around(letter: str, type_id: int) -> list[dict[str, Any]]:
        text = {"Sequence": {"id": letter, "type_id": type_id}}
        return [*_pieces(tokens, before, type_id), text, *_pieces(tokens, after, type_id)]

    special = {}
    for token in (*before, *after):
        text = tokens.text(token)
        special[text] = {"id": text, "ids": [token], "tokens": [text]}
    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": around("A", 0) + around("B", 1),
        "special_tokens": special,
    }


def _pieces(tokens: Tokens, ids: list[int | None], type_id: int) -> list[dict[str, Any]]:
    return [{"SpecialToken": {"id": tokens.text(id_), "type_id": type_id}} for id_ in ids]
