from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from litestar import get

from inferflux_api.governance.authentication import ApiKeys, scope_of
from inferflux_api.governance.guardrails import GuardrailPipeline
from inferflux_core.auth import Principal
from inferflux_core.config.schema import ApiKeyConfig
from inferflux_core.engine.sampling_params import SamplingParams
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


def test_keys_are_found_by_their_hash_alone() -> None:
    """Nothing is compared letter by letter, so time tells nothing about any key."""
    keys = ApiKeys([ApiKeyConfig(key=f"secret-{n}", scopes=["read"]) for n in range(90, 100)])
    kept = repr([getattr(keys, name) for name in vars(keys)])
    assert "key-9" in kept
    assert "secret" not in kept
    assert keys.find("secret-99") is not None
    for wrong in ("secret-9", "secret-999", "Secret-99", "secret-99 ", "", "secret"):
        assert keys.find(wrong) is None


@pytest.mark.parametrize("opt", [{}, {"scope": "everything"}, {"scope": None}])
def test_a_route_without_a_scope_cannot_be_served(opt: dict[str, Any]) -> None:
    @get("/x", opt=opt)
    async def handler() -> None: ...

    with pytest.raises(LookupError, match="names no scope"):
        scope_of(handler)


@pytest.mark.parametrize("shared", [Principal("a", frozenset()), CONTEXT, SamplingParams()])
def test_a_hook_cannot_change_what_others_share(shared: Any) -> None:
    name = next(iter(getattr(shared, "__struct_fields__", None) or fields(shared)))
    name = name if isinstance(name, str) else name.name
    with pytest.raises(AttributeError):
        setattr(shared, name, "another")
