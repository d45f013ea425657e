from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from inferflux_core.guardrails import Blocked, Direction, GuardrailContext
from inferflux_core.guardrails.reviewing import (
    Judge,
    ReviewerConfig,
    ReviewError,
    category,
    decision,
)
from inferflux_core.guardrails.verdict_cache import Verdict

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Oracle:
    """Says what it is told to, and counts."""

    def __init__(self, says: Verdict | Exception) -> None:
        self.says = says
        self.asked = 0

    async def __call__(self) -> Verdict:
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def context(flags: list[str] | None = None) -> GuardrailContext:
    noted = [] if flags is None else flags
    return GuardrailContext("r-1", "acme", "tiny", Direction.PROMPT, noted.append)


async def test_a_flag_is_noted_each_time_though_the_verdict_is_kept() -> None:
    judge, oracle = Judge("the oracle", ReviewerConfig()), Oracle(Verdict(flagged="o.rude"))
    flags: list[str] = []
    for _ in range(2):
        await judge.review(context(flags), b"question", oracle)
    assert (flags, oracle.asked) == (["o.rude", "o.rude"], 1)


async def test_a_refusal_is_kept_too() -> None:
    judge, oracle = Judge("the oracle", ReviewerConfig()), Oracle(Verdict(blocked="o"))
    for _ in range(2):
        with pytest.raises(Blocked, match=r"^o$"):
            await judge.review(context(), b"question", oracle)
    assert oracle.asked == 1


async def test_what_a_library_complains_of_is_not_repeated(caplog: Any) -> None:
    judge, oracle = Judge("the oracle", ReviewerConfig()), Oracle(ValueError("saw swordfish"))
    with pytest.raises(ReviewError) as caught:
        await judge.review(context(), b"question", oracle)
    logging.getLogger("test").error("failed", exc_info=caught.value)
    assert str(caught.value) == "the oracle: ValueError"
    assert "swordfish" not in caplog.text


async def test_a_failure_is_not_kept_and_five_are_enough() -> None:
    now = 0.0
    judge, oracle = Judge("it", ReviewerConfig(), lambda: now), Oracle(ReviewError("down"))
    for _ in range(7):
        with pytest.raises(ReviewError, match=r"down|asked again soon"):
            await judge.review(context(), b"question", oracle)
    assert oracle.asked == 5
    now, oracle.says = 5.0, Verdict()
    await judge.review(context(), b"question", oracle)


async def test_whoever_hangs_has_so_much_time() -> None:
    async def hang() -> Verdict:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(ReviewError, match=r"no answer of it within 0\.01 seconds"):
        await Judge("it", ReviewerConfig(timeout=0.01)).review(context(), b"question", hang)


async def test_a_long_question_is_not_asked() -> None:
    oracle = Oracle(Verdict())
    with pytest.raises(ReviewError, match="max_bytes"):
        await Judge("it", ReviewerConfig(max_bytes=1024)).review(context(), b"x" * 1025, oracle)
    assert oracle.asked == 0


@pytest.mark.parametrize("result", [None, 1, "true", [], {"allow": 1}, {"allow": None}])
def test_only_true_and_false_are_decisions(result: Any) -> None:
    with pytest.raises(ReviewError, match="neither true nor false"):
        decision("rego", result)


@pytest.mark.parametrize("reason", ["It says x", "A", "", "x" * 65, "a\n", None, 3, ["a"]])
def test_a_reason_that_may_repeat_the_text_is_dropped(reason: Any) -> None:
    assert category("rego", reason) == "rego"
