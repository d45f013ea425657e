from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from inferflux_api.governance.audit import AuditLog
from inferflux_api.governance.authentication import ApiKeys
from inferflux_api.governance.guardrails import GuardrailPipeline
from inferflux_api.governance.rate_limit import RateLimiter
from inferflux_core.auth import Principal
from inferflux_core.config.schema import ApiKeyConfig
from inferflux_core.errors import (
    ConfigError,
    EngineUnavailableError,
    GuardrailBlockedError,
    GuardrailError,
    RateLimitedError,
)
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext, TextFilter

CONTEXT = GuardrailContext("r1", "acme", "m", Direction.PROMPT)
ALICE = Principal("alice", frozenset({"generate"}), tenant="acme")


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
    chain = GuardrailPipeline({"upper": Upper(), "exclaim": Exclaim()}).open(CONTEXT)
    assert chain.feed("hello.") + chain.feed(" there.") + chain.finish() == "HELLO! THERE!"


def test_a_refused_prompt_does_not_say_what_matched() -> None:
    pipeline = GuardrailPipeline({"upper": Upper()})
    with pytest.raises(GuardrailBlockedError) as caught:
        pipeline.check_prompt(CONTEXT, "such a BAD word")
    assert "rude" in caught.value.message
    assert "bad" not in caught.value.message.lower()


def test_a_guardrail_that_fails_lets_nothing_through() -> None:
    chain = GuardrailPipeline({"upper": Upper()}).open(CONTEXT)
    with pytest.raises(GuardrailError):
        chain.feed("crash")


def test_keys_know_their_principal() -> None:
    keys = ApiKeys(
        [
            ApiKeyConfig(key="one", scopes=["read"], name="first", tenant="acme"),
            ApiKeyConfig(key="two", scopes=["generate"]),
        ]
    )
    first = asyncio.run(keys.authenticate("one"))
    assert first == Principal("first", frozenset({"read"}), "acme", "api-keys")
    assert asyncio.run(keys.authenticate("One")) is None
    assert "one" not in repr(vars(keys))


def test_limits_count_per_tenant() -> None:
    async def run() -> None:
        limiter = RateLimiter(2)
        assert (await limiter.check(ALICE))["x-ratelimit-remaining-requests"] == "1"
        await limiter.check(ALICE)
        with pytest.raises(RateLimitedError) as caught:
            await limiter.check(Principal("another key", ALICE.scopes, tenant="acme"))
        assert caught.value.retry_after is not None
        assert 1 <= caught.value.retry_after <= 61
        await limiter.check(Principal("bob", ALICE.scopes, tenant="other"))

    asyncio.run(run())


def test_no_limit_is_no_limit() -> None:
    async def run() -> None:
        limiter = RateLimiter(None)
        for _ in range(1000):
            assert await limiter.check(ALICE) == {}

    asyncio.run(run())


def test_the_audit_log_has_both_ends_of_a_request(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "audit.jsonl"
    audit = AuditLog(str(file))
    audit.received("r1", ALICE, "m")
    audit.completed("r1", ALICE, "m", outcome="stop", prompt_tokens=5, completion_tokens=7)
    audit.close()

    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert (first["event"], second["event"]) == ("received", "completed")
    assert second["subject"] == "alice"
    assert second["completion_tokens"] == 7
    assert file.stat().st_mode & 0o077 == 0


def test_an_audit_log_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"audit\.path"):
        AuditLog(str(tmp_path))


def test_no_audit_no_service() -> None:
    audit = AuditLog("/dev/full")
    with pytest.raises(EngineUnavailableError, match="audit"):
        audit.received("r1", ALICE, "m")
