"""A tokenizer whose markers of calls and reasoning can be read."""

from __future__ import annotations

from collections.abc import Iterable

from inferflux_core.engine.runner import Tokenizer
from inferflux_core.tool_calls.formats import ReasoningMarkers, ToolFormat

__all__ = ["MarkedTokenizer", "markers_of"]


def markers_of(tool_format: ToolFormat, reasoning: ReasoningMarkers | None) -> Iterable[str]:
    """The texts that have to be seen in answers of a model."""
    yield from filter(None, (tool_format.opening, tool_format.closing, tool_format.quote))
    if tool_format.body == "named":
        yield "[ARGS]"
    if reasoning is not None:
        yield from (reasoning.opening, reasoning.closing)


class MarkedTokenizer:
    """A `Tokenizer` that spells out control tokens which mark calls and reasoning.

    Such tokens stand for no text otherwise, so a reader could not tell where a call begins.

    Args:
        tokenizer: of the model.
        markers: texts; those that are one control token are spelt out.
    """

    def __init__(self, tokenizer: Tokenizer, markers: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self._markers: dict[int, bytes] = {}
        for marker in markers:
            ids = tokenizer.encode(marker, add_special=False, parse_special=True)
            if len(ids) == 1 and not tokenizer.piece(ids[0]):
                self._markers[ids[0]] = marker.encode()

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self._tokenizer.vocab_size

    @property
    def end_of_generation_ids(self) -> frozenset[int]:
        """Tokens with which the model ends an answer."""
        return self._tokenizer.end_of_generation_ids

    @property
    def bos_text(self) -> str:
        """The beginning-of-sequence token as templates spell it."""
        return self._tokenizer.bos_text

    @property
    def eos_text(self) -> str:
        """The end-of-sequence token as templates spell it."""
        return self._tokenizer.eos_text

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that ships with the model."""
        return self._tokenizer.chat_template

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokenize; texts that hold a marker have it as one token."""
        if not parse_special and self._markers:
            parse_special = any(m.decode() in text for m in self._markers.values())
        return self._tokenizer.encode(text, add_special=add_special, parse_special=parse_special)

    def piece(self, token_id: int) -> bytes:
        """The bytes a token stands for."""
        return self._markers.get(token_id) or self._tokenizer.piece(token_id)
