"""What limits admit, refuse and say; counted in memory, by a clock that the tests turn."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from inferflux_api.dialects.anthropic.limits import limit_headers as anthropic_headers
from inferflux_api.generation import GenerationRequest
from inferflux_api.governance.limits import Limiter, call_estimate, generation_estimate
from inferflux_api.governance.limits.estimate import Estimate
from inferflux_api.governance.limits.memory import MemoryStore
from inferflux_api.governance.limits.rules import Rules
from inferflux_api.governance.limits.store import Charge, Grant, LimitStore, StoreFailedError
from inferflux_api.governance.policy.document import new_policy
from inferflux_api.governance.policy.effect import apply_policy
from inferflux_core.auth import Principal
from inferflux_core.config.checks import check
from inferflux_core.config.problems import Problem
from inferflux_core.config.schema import Config, LimitsConfig, RateLimitConfig
from inferflux_core.engine.protocol import (
    ChatPrompt,
    Embed,
    InfillPrompt,
    Rank,
    TextPrompt,
    Tokenize,
    TokenPrompt,
)
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import (
    InvalidRequestError,
    LimitsUnavailableError,
    RateLimitedError,
    StartupError,
)

ALICE = Principal("alice", frozenset({"generate"}), tenant="acme")
CAROL = Principal("carol", frozenset({"generate"}), tenant="acme")
BOB = Principal("bob", frozenset({"generate"}), tenant="other")
NOTHING = Estimate(0)

T = TypeVar("T")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.25

    def __call__(self) -> float:
        return self.now


class Broken(MemoryStore):
    """A store that fails as long as it is told to."""

    broken = True

    async def start(self) -> None:
        if self.broken:
            raise StoreFailedError("it is broken")

    async def reserve(self, charges: Any) -> Grant:
        await self.start()
        return await super().reserve(charges)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def limiter(clock: Clock | None = None, store: LimitStore | None = None, **config: Any) -> Limiter:
    return Limiter(RateLimitConfig(**config), store or MemoryStore(clock or Clock()))


def test_without_limits_nothing_is_counted() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        free = limiter(store=store)
        for _ in range(100):
            assert (await free.reserve(ALICE, "m", Estimate(10**9))).headers == {}
        assert store.size == 0

    run(scenario())


def test_a_tenant_has_one_limit_however_many_keys() -> None:
    async def scenario() -> None:
        clock = Clock()
        limits = limiter(clock, requests_per_minute=50)
        for number in range(50):
            key = Principal(f"key-{number}", frozenset(), tenant="acme")
            (await limits.reserve(key, "m", NOTHING)).settle()
        with pytest.raises(RateLimitedError, match="50 requests per minute of tenant 'acme'"):
            await limits.reserve(ALICE, "m", NOTHING)
        await limits.reserve(BOB, "m", NOTHING)

    run(scenario())


def test_a_retry_at_the_time_that_was_named_succeeds() -> None:
    async def scenario() -> None:
        clock = Clock()
        limits = limiter(clock, requests_per_minute=2, tokens_per_minute=100)
        await limits.reserve(ALICE, "m", Estimate(70))
        clock.now += 20
        await limits.reserve(ALICE, "m", Estimate(30))
        for tokens in (80, 100):
            with pytest.raises(RateLimitedError) as caught:
                await limits.reserve(ALICE, "m", Estimate(tokens))
            wait = caught.value.retry_after
            assert wait is not None
            assert 0 < wait <= 61
        clock.now += wait - 0.01
        with pytest.raises(RateLimitedError):
            await limits.reserve(ALICE, "m", Estimate(100))
        clock.now += 0.02
        await limits.reserve(ALICE, "m", Estimate(100))

    run(scenario())


def test_tokens_that_were_not_used_are_given_back() -> None:
    async def scenario() -> None:
        limits = limiter(tokens_per_minute=1000, tokens_per_day=1500)
        with await limits.reserve(ALICE, "m", Estimate(900)) as first:
            assert first.headers["x-ratelimit-remaining-tokens"] == "100"
            with pytest.raises(RateLimitedError, match=r"900 are used or reserved, .* use 200"):
                await limits.reserve(ALICE, "m", Estimate(200))
            first.used = 300
        first.settle()  # Once is enough.
        second = await limits.reserve(ALICE, "m", Estimate(200))
        assert second.headers["x-ratelimit-limit-tokens"] == "1000"
        assert second.headers["x-ratelimit-remaining-tokens"] == "500"

    run(scenario())


def test_tokens_beyond_the_estimate_are_paid_for() -> None:
    async def scenario() -> None:
        clock = Clock()
        limits = limiter(clock, tokens_per_minute=100)
        with await limits.reserve(ALICE, "m", Estimate(10)) as reservation:
            reservation.used = 250
        with pytest.raises(RateLimitedError) as caught:
            await limits.reserve(ALICE, "m", Estimate(1))
        assert caught.value.headers["x-ratelimit-remaining-tokens"] == "0"
        clock.now += 62
        await limits.reserve(ALICE, "m", Estimate(100))

    run(scenario())


def test_what_can_never_fit_is_refused_for_good() -> None:
    async def scenario() -> None:
        limits = limiter(tokens_per_minute=100, tokens_per_day=5000)
        with pytest.raises(InvalidRequestError, match="may use 101 tokens") as caught:
            await limits.reserve(ALICE, "m", Estimate(101))
        assert caught.value.retry_after is None
        reservation = await limits.reserve(ALICE, "m", Estimate(100))
        assert reservation.headers["x-ratelimit-remaining-tokens"] == "0"

    run(scenario())


def test_an_expected_answer_is_no_reason_to_refuse_for_good() -> None:
    async def scenario() -> None:
        limits = limiter(tokens_per_minute=100, expected_answer_tokens=512)
        reservation = await limits.reserve(ALICE, "m", Estimate(10, open_answers=2))
        assert reservation.headers["x-ratelimit-remaining-tokens"] == "0"
        reservation.settle()
        with pytest.raises(InvalidRequestError):
            await limits.reserve(ALICE, "m", Estimate(100, open_answers=2))
        roomy = limiter(tokens_per_minute=10_000, expected_answer_tokens=512)
        reservation = await roomy.reserve(ALICE, "m", Estimate(10, open_answers=2))
        assert reservation.headers["x-ratelimit-remaining-tokens"] == str(10_000 - 10 - 2 * 512)

    run(scenario())


def test_requests_at_a_time() -> None:
    async def scenario() -> None:
        limits = limiter(concurrent_requests=2)
        first, _ = [await limits.reserve(ALICE, "m", NOTHING) for _ in range(2)]
        assert first.headers == {}
        with pytest.raises(RateLimitedError, match="2 concurrent requests") as caught:
            await limits.reserve(CAROL, "m", NOTHING)
        assert caught.value.retry_after == 1
        first.settle()
        first.settle()
        await limits.reserve(CAROL, "m", NOTHING)
        with pytest.raises(RateLimitedError):
            await limits.reserve(ALICE, "m", NOTHING)

    run(scenario())


@pytest.mark.parametrize(
    ("config", "who"),
    [
        ({"per_key": LimitsConfig(requests_per_minute=1)}, "key 'alice'"),
        ({"keys": {"alice": LimitsConfig(requests_per_minute=1)}}, "key 'alice'"),
        ({"tenants": {"acme": LimitsConfig(requests_per_minute=1)}}, "tenant 'acme'"),
        ({"models": {"m": LimitsConfig(requests_per_minute=1)}}, "model 'm' for tenant 'acme'"),
    ],
)
def test_the_strictest_limit_decides(config: dict[str, Any], who: str) -> None:
    async def scenario() -> None:
        limits = limiter(requests_per_minute=5, **config)
        headers = (await limits.reserve(ALICE, "m", NOTHING)).headers
        assert headers["x-ratelimit-limit-requests"] == "1"
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-reset-requests"] in ("1m0s", "1m1s")
        with pytest.raises(RateLimitedError, match=who):
            await limits.reserve(ALICE, "m", NOTHING)
        await limits.reserve(BOB, "m", NOTHING)

    run(scenario())


def test_an_exception_keeps_the_defaults_it_does_not_name() -> None:
    async def scenario() -> None:
        exception = LimitsConfig(requests_per_minute=3)
        limits = limiter(requests_per_minute=1, concurrent_requests=2, tenants={"acme": exception})
        for _ in range(2):
            await limits.reserve(ALICE, None, NOTHING)
        with pytest.raises(RateLimitedError, match="concurrent"):
            await limits.reserve(ALICE, None, NOTHING)

    run(scenario())


def test_a_refused_request_uses_nothing_of_other_limits() -> None:
    async def scenario() -> None:
        limits = limiter(requests_per_minute=2, models={"m": LimitsConfig(requests_per_minute=1)})
        await limits.reserve(ALICE, "m", NOTHING)
        for _ in range(5):
            with pytest.raises(RateLimitedError):
                await limits.reserve(ALICE, "m", NOTHING)
        headers = (await limits.reserve(ALICE, "other", NOTHING)).headers
        assert headers["x-ratelimit-remaining-requests"] == "0"

    run(scenario())


def test_names_that_look_alike_are_counted_apart() -> None:
    async def scenario() -> None:
        limits = limiter(
            models={name: LimitsConfig(requests_per_minute=1) for name in ("b:c", "c")}
        )
        await limits.reserve(Principal("x", frozenset(), tenant="a"), "b:c", NOTHING)
        await limits.reserve(Principal("x", frozenset(), tenant="a:b"), "c", NOTHING)

    run(scenario())


def test_new_rules_find_what_was_counted_under_the_old_ones() -> None:
    async def scenario() -> None:
        limits = limiter(requests_per_minute=5)
        for _ in range(3):
            await limits.reserve(ALICE, "m", NOTHING)
        limits.set_limits(RateLimitConfig(requests_per_minute=3))
        with pytest.raises(RateLimitedError):
            await limits.reserve(ALICE, "m", NOTHING)

    run(scenario())


def test_names_are_forgotten() -> None:
    async def scenario() -> None:
        clock = Clock()
        store = MemoryStore(clock, most_windows=100)
        limits = limiter(store=store, per_key=LimitsConfig(requests_per_minute=9))
        for number in range(1000):
            key = Principal(f"key-{number}", frozenset())
            (await limits.reserve(key, "m", NOTHING)).settle()
        assert store.size == 100
        clock.now += 62
        await limits.reserve(ALICE, "m", NOTHING)
        assert store.size == 1

    run(scenario())


def test_a_failing_store_lets_nobody_in() -> None:
    async def scenario() -> None:
        store = Broken()
        limits = limiter(store=store, requests_per_minute=5)
        with pytest.raises(StartupError, match="on_storage_failure"):
            await limits.start()
        with pytest.raises(LimitsUnavailableError) as caught:
            await limits.reserve(ALICE, "m", NOTHING)
        assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
        store.broken = False
        await limits.reserve(ALICE, "m", NOTHING)

    run(scenario())


def test_a_failing_store_may_be_stood_in_for(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        store = Broken()
        limits = limiter(store=store, requests_per_minute=2, on_storage_failure="allow")
        await limits.start()
        held = [await limits.reserve(ALICE, "m", NOTHING) for _ in range(2)]
        with pytest.raises(RateLimitedError):
            await limits.reserve(ALICE, "m", NOTHING)
        store.broken = False
        await limits.reserve(ALICE, "m", NOTHING)
        for reservation in held:
            reservation.settle()
        assert caplog.text.count("counting in memory") == 1

    run(scenario())


@pytest.mark.parametrize(
    ("params", "more", "tokens", "open_answers"),
    [
        (SamplingParams(max_tokens=10), {}, 1 + 10, 0),
        (SamplingParams(max_tokens=10), {"n": 3}, 1 + 30, 0),
        (SamplingParams(max_tokens=10), {"n": 2, "best_of": 4}, 1 + 40, 0),
        (SamplingParams(max_tokens=10**9), {}, 1 + 512, 0),
        (SamplingParams(), {"n": 2}, 1, 2),
    ],
)
def test_what_a_generation_may_use(
    params: SamplingParams, more: dict[str, Any], tokens: int, open_answers: int
) -> None:
    request = GenerationRequest(model=None, prompts=[TextPrompt(text="hi")], params=params, **more)
    assert generation_estimate(request, 512) == Estimate(tokens, open_answers)


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        (TokenPrompt(token_ids=[1, 2, 3]), 3),
        (TextPrompt(text="abc" * 100), 101),
        (TextPrompt(text="中" * 100), 101),
        (TextPrompt(text="\ud800"), 2),
        (InfillPrompt(prefix="abc", suffix="def"), 3),
        (ChatPrompt(messages=[{"role": "user", "content": "x" * 300}]), 114),
    ],
)
def test_what_a_prompt_may_use(prompt: Any, tokens: int) -> None:
    assert call_estimate(Embed(call_id=0, inputs=[prompt])) == Estimate(tokens)
    assert call_estimate(Tokenize(call_id=0, prompt=prompt)) == Estimate(0)


def test_what_a_ranking_may_use() -> None:
    call = Rank(call_id=0, query="abc", documents=["abc", "abcdef"])
    assert call_estimate(call) == Estimate(6)


def test_anthropic_names_the_moment_of_the_reset() -> None:
    now = datetime(2026, 1, 1, 23, 0, 0, tzinfo=UTC)
    headers = {
        "x-ratelimit-limit-tokens": "10",
        "x-ratelimit-remaining-tokens": "9",
        "x-ratelimit-reset-tokens": "1h1m5s",
        "other": "x",
    }
    assert anthropic_headers(headers, now) == {
        "anthropic-ratelimit-tokens-limit": "10",
        "anthropic-ratelimit-tokens-remaining": "9",
        "anthropic-ratelimit-tokens-reset": "2026-01-02T00:01:05Z",
    }


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (RateLimitConfig(storage="http://x"), "none of redis://"),
        (RateLimitConfig(storage="redis://"), "none of redis://"),
        (RateLimitConfig(on_storage_failure="allow"), "no effect"),
    ],
)
def test_settings_without_sense_are_refused(limits: RateLimitConfig, problem: str) -> None:
    with pytest.raises(Problem) as caught:
        check(Config(rate_limit=limits))
    assert problem in caught.value.text


def test_a_password_of_the_storage_is_not_shown() -> None:
    assert "secret" not in repr(Config(rate_limit=RateLimitConfig(storage="redis://:secret@x")))


def test_a_policy_keeps_the_storage_of_the_configuration() -> None:
    config = Config(rate_limit=RateLimitConfig(storage="redis://x", on_storage_failure="allow"))
    policy = new_policy(RateLimitConfig(tokens_per_day=9))
    applied = apply_policy(config, policy).rate_limit
    assert applied.tokens_per_day == 9
    assert (applied.storage, applied.on_storage_failure) == ("redis://x", "allow")


def test_what_is_owed_in_the_end() -> None:
    (rule,) = Rules(RateLimitConfig(tokens_per_day=9)).of(ALICE, None)
    assert [Charge(rule, 5).owed(used) for used in (7, 2, None)] == [2, -3, -5]
