# ruff: noqa: D102 - a test's name says what it shows
"""The part of `BackendContract` that concerns the vocabulary."""

from __future__ import annotations

import threading

import pytest

from inferflux_core.engine.runner import ModelRunner
from inferflux_core.testing.driving import Driver
from inferflux_core.testing.loaded_model import LoadedModel

__all__ = ["TokenizerTests"]

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Grüße aus Zürich, naïve café",
    "日本語と한국어 и русский",
    "Emoji 😀👩‍👩‍👧 and a combining e\u0301",
    "def f(x):\n    return x + 1\n",
)


class TokenizerTests(LoadedModel):
    """Texts and tokens."""

    @pytest.mark.parametrize("text", TEXTS)
    def test_the_pieces_of_a_text_are_the_text(self, runner: ModelRunner, text: str) -> None:
        tokenizer = runner.tokenizer
        token_ids = tokenizer.encode(text, add_special=False, parse_special=False)
        read = b"".join(tokenizer.piece(token_id) for token_id in token_ids).decode()
        # Vocabularies of the SentencePiece kind put a space before every text.
        assert read in (text, f" {text}")

    def test_tokens_are_within_the_vocabulary(self, runner: ModelRunner) -> None:
        vocab_size = runner.capabilities.vocab_size
        assert runner.tokenizer.vocab_size == vocab_size
        for text in TEXTS:
            token_ids = runner.tokenizer.encode(text, add_special=True, parse_special=True)
            assert token_ids
            assert all(0 <= token_id < vocab_size for token_id in token_ids)

    def test_every_token_has_a_piece(self, runner: ModelRunner) -> None:
        tokenizer = runner.tokenizer
        kinds = {type(tokenizer.piece(token_id)) for token_id in range(tokenizer.vocab_size)}
        assert kinds == {bytes}

    def test_the_model_can_end_an_answer(self, runner: ModelRunner) -> None:
        ends = runner.tokenizer.end_of_generation_ids
        assert ends
        assert all(0 <= token_id < runner.capabilities.vocab_size for token_id in ends)

    def test_any_thread_may_tokenize_while_the_model_runs(self, driver: Driver) -> None:
        tokenizer = driver.runner.tokenizer
        expected = [tokenizer.encode(t, add_special=True, parse_special=True) for t in TEXTS]
        differing: list[object] = []
        done = threading.Event()

        def tokenize() -> None:
            while True:
                try:
                    found = [
                        tokenizer.encode(t, add_special=True, parse_special=True) for t in TEXTS
                    ]
                except Exception as error:
                    differing.append(error)
                    return
                differing.extend(tokens for tokens in found if tokens not in expected)
                if done.is_set():
                    return

        other = threading.Thread(target=tokenize)
        other.start()
        try:
            driver.generate(0, driver.encode(TEXTS[0]), 8)
        finally:
            done.set()
            other.join()
        assert not differing
