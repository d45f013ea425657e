from __future__ import annotations

import pytest

from inferflux_core.backends.byte_tokenizer import ByteTokenizer
from inferflux_core.engine.infill import detect_infill
from inferflux_core.engine.preparation import RequestFactory
from inferflux_core.engine.protocol import InfillPrompt
from inferflux_core.errors import InvalidRequestError
from inferflux_core.testing import DeterministicRunner

BEFORE, AFTER, MIDDLE = 300, 301, 302


class CodeTokenizer(ByteTokenizer):
    """A vocabulary of a model that was trained to fill in the middle."""

    vocab_size = 303

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        markers = {"<fim_prefix>": BEFORE, "<fim_suffix>": AFTER, "<fim_middle>": MIDDLE}
        if parse_special and text in markers:
            return [markers[text]]
        return super().encode(text, add_special=add_special, parse_special=parse_special)

    def piece(self, token_id: int) -> bytes:
        return b"" if token_id >= BEFORE else super().piece(token_id)


def test_the_prompt_puts_prefix_and_suffix_between_the_models_own_tokens() -> None:
    capabilities = DeterministicRunner().capabilities
    factory = RequestFactory(CodeTokenizer(), capabilities)

    prompt = InfillPrompt(prefix="ab", suffix="c")
    assert factory.token_ids(prompt) == [BEFORE, *b"ab", AFTER, *b"c", MIDDLE]


def test_what_the_caller_wrote_is_text() -> None:
    factory = RequestFactory(CodeTokenizer(), DeterministicRunner().capabilities)

    ids = factory.token_ids(InfillPrompt(prefix="<fim_middle>", suffix=""))
    assert ids.count(MIDDLE) == 1


def test_other_models_say_so() -> None:
    factory = RequestFactory(ByteTokenizer(), DeterministicRunner().capabilities)

    assert detect_infill(ByteTokenizer()) is None
    with pytest.raises(InvalidRequestError, match="cannot fill in the middle"):
        factory.token_ids(InfillPrompt(prefix="a", suffix="b"))
