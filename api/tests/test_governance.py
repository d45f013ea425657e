from __future__ import annotations

import pytest

from inferflux_api.governance.authentication import ApiKeys
from inferflux_api.governance.guardrails import GuardrailPipeline
from inferflux_core.auth import Principal
from inferflux_core.config.schema import ApiKeyConfig
from inferflux_core.errors import (
    GuardrailBlockedError,
    GuardrailError,
)
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext, TextFilter

CONTEXT = GuardrailContext("r1", "acme", "m", Direction.PROMPT)


class Upper:
    """A guardrail that holds one character back and shouts."""

    def open(self, context: GuardrailContext) -> TextFilter:
        del context
        return UpperFilter()


class UpperFilter:
    def __init__(self) -> None:
        self.held = ""

    def feed(self, text: str) -> str:
        if "bad" in text.lower():
            raise Blocked("rude")
        if "crash" in text:
            raise ZeroDivisionError
        text = self.held + text.upper()
        self.held = text[-1:]
        return text[:-1]

    def finish(self) -> str:
        return self.held


class Exclaim:
    def open(self, context: GuardrailContext) -> TextFilter:
        del context
        return ExclaimFilter()


class ExclaimFilter:
    def feed(self, text: str) -> str:
        return text.replace(".", "!")

    def finish(self) -> str:
        return ""


def test_guardrails_run_in_order_and_nothing_is_lost() -> None:
    chain = GuardrailPipeline({"upper": Upper(), "exclaim": Exclaim()}).inspect(CONTEXT).open()
    assert chain.feed("hello.") + chain.feed(" there.") + chain.finish() == "HELLO! THERE!"


def test_a_refused_prompt_does_not_say_what_matched() -> None:
    pipeline = GuardrailPipeline({"upper": Upper()})
    with pytest.raises(GuardrailBlockedError) as caught:
        pipeline.check_prompt(CONTEXT)("such a BAD word")
    assert "rude" in caught.value.message
    assert "bad" not in caught.value.message.lower()


def test_a_guardrail_that_fails_lets_nothing_through() -> None:
    chain = GuardrailPipeline({"upper": Upper()}).inspect(CONTEXT).open()
    with pytest.raises(GuardrailError):
        chain.feed("crash")


def test_keys_know_their_principal() -> None:
    keys = ApiKeys(
        [
            ApiKeyConfig(key="one", scopes=["read"], name="first", tenant="acme"),
            ApiKeyConfig(key="two", scopes=["generate"]),
        ]
    )
    first = keys.find("one")
    assert first == Principal("first", frozenset({"read"}), "acme", "api-keys")
    assert keys.find("One") is None
    assert "'one'" not in repr(vars(keys))
