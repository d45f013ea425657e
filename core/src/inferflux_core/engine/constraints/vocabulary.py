"""A model's vocabulary as llguidance wants it."""

from __future__ import annotations

from llguidance import LLTokenizer

from inferflux_core.engine.runner import Tokenizer

__all__ = ["build_vocabulary"]

_SPECIAL = b"\xff"  # no token of text begins with this byte
_MARK = "\x02"


class _Vocabulary:
    """What llguidance reads while it builds its own tokenizer, and calls for forced text.

    Tokens that stand for no text, and those that end an answer whatever text they stand for, are marked
    as special: llguidance never takes them for text.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        ends = tokenizer.end_of_generation_ids
        pieces = [tokenizer.piece(i) for i in range(tokenizer.vocab_size)]
        self.special_token_ids = [i for i, piece in enumerate(pieces) if not piece or i in ends]
        for token_id in self.special_token_ids:
            pieces[token_id] = _SPECIAL + b"<%d>" % token_id
        self.tokens = pieces
        self.eos_token_id = min(ends)
        self._mark = self._encode(_MARK)

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode()
        token_ids = self._encode(text)
        if self._spell(token_ids) == text.encode():
            return token_ids
        # Vocabularies of the SentencePiece kind put a space before every text, but not within one.
        token_ids = self._encode(_MARK + text)[len(self._mark) :]
        # Nothing is forced if the tokens do not spell the text to the byte.
        return token_ids if self._spell(token_ids) == text.encode() else []

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special=False, parse_special=False)

    def _spell(self, token_ids: list[int]) -> bytes:
        return b"".join(self.tokens[token_id] for token_id in token_ids)


def build_vocabulary(tokenizer: Tokenizer) -> LLTokenizer:
    """Build llguidance's tokenizer; takes 0.3 s for 49,000 tokens and 2 s for 262,000."""
    return LLTokenizer(
        _Vocabulary(tokenizer),  # type: ignore[arg-type]  # it asks for the shape, not for the class
        eos_token=sorted(tokenizer.end_of_generation_ids),
    )
