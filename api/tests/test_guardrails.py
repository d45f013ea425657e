"""What becomes of what guardrails find, and of guardrails that fail."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from inferflux_api.governance.filters import Rule
from inferflux_api.governance.findings import HEADER
from inferflux_api.governance.guardrails import GuardrailPipeline, GuardrailWorkshop
from inferflux_api.observability.metrics import Metrics
from inferflux_core.config.schema import Config, GuardrailsConfig
from inferflux_core.errors import GuardrailBlockedError, GuardrailError
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext, TextFilter
from inferflux_core.guardrails.blocklist import Blocklist, BlocklistConfig
from inferflux_core.plugins import PluginManager
from inferflux_core.specs import GuardrailSpec

CONTEXT = GuardrailContext("r-1", "acme", "tiny", Direction.PROMPT)


def words(*forbidden: str, action: Any = "block") -> Blocklist:
    return Blocklist(BlocklistConfig(words=list(forbidden), action=action))


class Faulty:
    """A guardrail whose filter holds one character back and goes wrong when it sees an `!`."""

    def __init__(self, fault: Callable[[], Any], *, changes: bool = False) -> None:
        self.fault = fault
        self.changes = changes

    def open(self, context: GuardrailContext) -> TextFilter:
        del context
        return FaultyFilter(self)


class FaultyFilter:
    def __init__(self, guardrail: Faulty) -> None:
        self.guardrail = guardrail
        self.held = ""

    def feed(self, text: str) -> str:
        if "!" in text:
            return self.guardrail.fault()  # type: ignore[no-any-return]
        text = self.held + (text.upper() if self.guardrail.changes else text)
        self.held = text[-1:]
        return text[:-1]

    def finish(self) -> str:
        return self.held


class Flagging:
    """A guardrail that lets numbers pass and says so."""

    def open(self, context: GuardrailContext) -> TextFilter:
        return FlaggingFilter(context)


class FlaggingFilter:
    def __init__(self, context: GuardrailContext) -> None:
        self.context = context

    def feed(self, text: str) -> str:
        if re.search("[0-9]", text):
            self.context.flag("numbers.any")
        return text

    def finish(self) -> str:
        return ""


class Opinion:
    """A reviewer that remembers what it was shown."""

    directions = frozenset(Direction)

    def __init__(self, piece: int | None = None, forbidden: str = "swordfish") -> None:
        self.piece = piece
        self.forbidden = forbidden
        self.shown: list[str] = []
        self.error: Exception | None = None
        self.closed = False

    async def review(self, context: GuardrailContext, text: str) -> None:
        self.shown.append(text)
        if self.error is not None:
            raise self.error
        if self.forbidden in text:
            raise Blocked("opinion")

    async def close(self) -> None:
        self.closed = True


def raises() -> Any:
    raise ZeroDivisionError


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: iter(()))


def counted(metrics: Metrics) -> dict[str, float]:
    """What was counted about guardrails: `findings blocklist block prompt`."""
    pattern = r'inferflux_guardrail_(\w+)_total\{action="(\w+)",direction="(\w+)",guardrail="(\w+)"\} (.+)'
    found = re.findall(pattern, metrics.render().decode())
    return {
        f"{kind} {guardrail} {action} {direction}": float(number)
        for kind, action, direction, guardrail, number in found
    }


def through(pipeline: GuardrailPipeline, *pieces: str) -> tuple[list[str], dict[str, str]]:
    headers: dict[str, str] = {}
    chain = pipeline.inspect(CONTEXT, headers).open()
    return [*map(chain.feed, pieces), chain.finish()], headers


def test_a_word_is_blocked_and_counted(metrics: Metrics) -> None:
    pipeline = GuardrailPipeline({"blocklist": words("secret")}, metrics=metrics)
    with pytest.raises(GuardrailBlockedError):
        pipeline.check_prompt(CONTEXT)("a secret")
    assert counted(metrics) == {"findings blocklist block prompt": 1}


def test_a_word_is_masked_and_counted_once_a_text(metrics: Metrics) -> None:
    pipeline = GuardrailPipeline({"blocklist": words("secret", action="mask")}, metrics=metrics)
    pieces, headers = through(pipeline, "a sec", "rEt, another Sécret; se", "cond")
    assert pieces == ["a ", "[REDACTED], another [REDACTED]; ", "second", ""]
    assert counted(metrics) == {"findings blocklist mask prompt": 1}
    assert headers == {}


@pytest.mark.parametrize(("action", "header"), [("flag", {HEADER: "blocklist"}), ("log", {})])
@pytest.mark.parametrize("own", ["block", "mask"])
def test_what_is_flagged_or_logged_passes_at_once(
    metrics: Metrics,
    caplog: pytest.LogCaptureFixture,
    action: Any,
    header: dict[str, str],
    own: Any,
) -> None:
    pipeline = GuardrailPipeline(
        {"blocklist": words("secret", action=own)}, {"blocklist": Rule(action)}, metrics
    )
    pieces, headers = through(pipeline, "a sec", "ret; a secret", "!")
    assert pieces == ["a sec", "ret; a secret", "!", ""]
    assert headers == header
    assert counted(metrics) == {f"findings blocklist {action} prompt": 1}
    (line,) = caplog.messages
    assert "blocklist" in line
    assert "r-1" in line
    assert "secret" not in line


def test_a_filter_may_flag_what_it_lets_pass(metrics: Metrics) -> None:
    pipeline = GuardrailPipeline({"numbers": Flagging(), "b": words("x")}, metrics=metrics)
    pieces, headers = through(pipeline, "4 5")
    assert "".join(pieces) == "4 5"
    assert headers == {HEADER: "numbers"}
    assert counted(metrics) == {"findings numbers flag prompt": 1}


@pytest.mark.parametrize("fault", [raises, lambda: None, lambda: b"bytes"])
@pytest.mark.parametrize("action", ["enforce", "flag", "log"])
def test_a_guardrail_that_fails_blocks(
    metrics: Metrics, caplog: pytest.LogCaptureFixture, fault: Callable[[], Any], action: Any
) -> None:
    pipeline = GuardrailPipeline({"faulty": Faulty(fault)}, {"faulty": Rule(action)}, metrics)
    with pytest.raises(GuardrailError, match="'faulty' failed"):
        through(pipeline, "well", "oh!")
    assert counted(metrics) == {"failures faulty block prompt": 1}
    assert caplog.records[0].levelno == logging.ERROR


@pytest.mark.parametrize("fault", [raises, lambda: None, lambda: b"bytes"])
@pytest.mark.parametrize("action", ["enforce", "flag"])
def test_a_guardrail_that_fails_may_be_left_out_and_nothing_is_lost(
    metrics: Metrics, caplog: pytest.LogCaptureFixture, fault: Callable[[], Any], action: Any
) -> None:
    rule = Rule(action, "allow")
    pipeline = GuardrailPipeline(
        {"faulty": Faulty(fault), "blocklist": words("secret")}, {"faulty": rule}, metrics
    )
    pieces, _ = through(pipeline, "well", " oh! ", "fine")
    assert "".join(pieces) == "well oh! fine"
    assert counted(metrics) == {"failures faulty allow prompt": 1}
    assert "let through" in caplog.text
    with pytest.raises(Blocked):
        through(pipeline, "oh!", "secret")


def test_what_cannot_be_put_together_again_is_not_let_through() -> None:
    faulty = Faulty(raises, changes=True)
    pipeline = GuardrailPipeline({"faulty": faulty}, {"faulty": Rule("enforce", "allow")})
    with pytest.raises(GuardrailError):
        through(pipeline, "well", "oh!")


class Unopenable:
    def open(self, context: GuardrailContext) -> TextFilter:
        raise ZeroDivisionError


@pytest.mark.parametrize("on_failure", ["block", "allow"])
def test_a_guardrail_that_cannot_start(metrics: Metrics, on_failure: Any) -> None:
    pipeline = GuardrailPipeline(
        {"dead": Unopenable()}, {"dead": Rule(on_failure=on_failure)}, metrics
    )
    check = pipeline.check_prompt(CONTEXT)
    if on_failure == "block":
        with pytest.raises(GuardrailError):
            check("hello")
    else:
        assert check("hello") == "hello"
    assert counted(metrics) == {f"failures dead {on_failure} prompt": 1}


def test_a_prompt_is_reviewed_as_a_whole_after_the_filters() -> None:
    opinion = Opinion()
    pipeline = GuardrailPipeline({"opinion": opinion, "b": words("secret", action="mask")})
    check = pipeline.check_prompt(CONTEXT)
    assert [check("a secret"), check("hello")] == ["a [REDACTED]", "hello"]
    asyncio.run(check.review())
    assert opinion.shown == ["a [REDACTED]\nhello"]


def test_a_reviewer_refuses_a_prompt(metrics: Metrics) -> None:
    pipeline = GuardrailPipeline({"opinion": Opinion()}, metrics=metrics)
    check = pipeline.check_prompt(CONTEXT)
    check("swordfish")
    with pytest.raises(GuardrailBlockedError, match="opinion") as caught:
        asyncio.run(check.review())
    assert "swordfish" not in caught.value.message
    assert counted(metrics) == {"findings opinion block prompt": 1}


def test_a_reviewer_may_only_flag(metrics: Metrics) -> None:
    headers: dict[str, str] = {}
    pipeline = GuardrailPipeline({"opinion": Opinion()}, {"opinion": Rule("flag")}, metrics)
    check = pipeline.check_prompt(CONTEXT, headers)
    check("swordfish")
    asyncio.run(check.review())
    assert headers == {HEADER: "opinion"}
    assert counted(metrics) == {"findings opinion flag prompt": 1}


@pytest.mark.parametrize("on_failure", ["block", "allow"])
def test_a_reviewer_that_fails(metrics: Metrics, on_failure: Any) -> None:
    opinion = Opinion()
    opinion.error = TimeoutError()
    pipeline = GuardrailPipeline(
        {"opinion": opinion}, {"opinion": Rule(on_failure=on_failure)}, metrics
    )
    check = pipeline.check_prompt(CONTEXT)
    check("hello")
    if on_failure == "block":
        with pytest.raises(GuardrailError):
            asyncio.run(check.review())
    else:
        asyncio.run(check.review())
    assert counted(metrics) == {f"failures opinion {on_failure} prompt": 1}


def test_who_objects_is_told_whatever_would_become_of_it() -> None:
    pipeline = GuardrailPipeline(
        {"opinion": Opinion(), "words": words("secret"), "mask": words("a", action="mask")},
        {"words": Rule("flag")},
    )

    def objections(text: str) -> dict[str, bool]:
        return asyncio.run(pipeline.objections(CONTEXT, text))

    assert objections("hello") == {"opinion": False, "words": False, "mask": False}
    assert objections("swordfish, secret") == {"opinion": True, "words": True, "mask": False}
    assert objections("a") == {"opinion": False, "words": False, "mask": True}


class Plugins:
    """Plugins of one kind, and how many were made."""

    def __init__(self) -> None:
        self.made: list[Opinion] = []

    def guardrail(self, name: str) -> GuardrailSpec:
        return GuardrailSpec(name=name, summary="", config_type=dict, factory=self._make)

    def options(self, spec: GuardrailSpec, options: dict[str, Any]) -> dict[str, Any]:
        return options

    def _make(self, options: dict[str, Any]) -> Opinion:
        self.made.append(Opinion())
        return self.made[-1]


def test_a_policy_that_changes_keeps_what_it_can_and_closes_all() -> None:
    plugins = Plugins()
    workshop = GuardrailWorkshop(cast(PluginManager, plugins), Metrics(lambda: []))

    def pipeline(**options: Any) -> GuardrailPipeline:
        return workshop.pipeline(
            Config(guardrails=GuardrailsConfig(enabled=["opinion"], options={"opinion": options}))
        )

    first, same, other = pipeline(a=1), pipeline(a=1, action="flag"), pipeline(a=2)
    assert first.reviewers["opinion"] is same.reviewers["opinion"] is plugins.made[0]
    assert (first.rule("opinion").action, same.rule("opinion").action) == ("enforce", "flag")
    assert other.reviewers["opinion"] is plugins.made[1]
    assert not plugins.made[0].closed
    asyncio.run(workshop.close())
    assert [opinion.closed for opinion in plugins.made] == [True, True]


class Slow:
    """Takes a moment for each piece."""

    def __init__(self) -> None:
        self.pieces = 0
        self.begun = threading.Event()

    def open(self, context: GuardrailContext) -> Slow:
        del context
        return self

    def feed(self, text: str) -> str:
        self.pieces += 1
        self.begun.set()
        time.sleep(0.01)
        return text

    def finish(self) -> str:
        return ""


def test_a_long_prompt_that_nobody_waits_for_is_not_checked_to_its_end() -> None:
    slow, text = Slow(), "x" * 4_000_000

    async def scenario() -> None:
        check = GuardrailPipeline({"slow": slow}).check_prompt(CONTEXT)
        task = asyncio.create_task(check.run(lambda: check(text), len(text)))
        assert await asyncio.to_thread(slow.begun.wait, 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        seen = slow.pieces
        await asyncio.sleep(0.1)
        assert seen <= slow.pieces <= seen + 1 < 100

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_prompt_is_the_same_however_it_is_checked(size: int) -> None:
    text = "a secret " * (size // 9)
    check = GuardrailPipeline({"b": words("secret", action="mask")}).check_prompt(CONTEXT)
    seen = asyncio.run(check.run(lambda: check(text), len(text)))
    assert seen == text.replace("secret", "[REDACTED]")
