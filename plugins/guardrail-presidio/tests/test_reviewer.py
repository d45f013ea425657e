"""The guardrail without Presidio, which has an environment of its own: see test_real_presidio.py."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from typing import Any

import msgspec
import pytest

from inferflux_core.errors import PluginError
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext, Reviewer
from inferflux_core.guardrails.reviewing import ReviewError
from inferflux_guardrail_presidio.config import PresidioConfig
from inferflux_guardrail_presidio.plugin import inferflux_guardrails
from inferflux_guardrail_presidio.reviewer import PresidioReviewer

pytestmark = pytest.mark.anyio

CONTEXT = GuardrailContext("r-1", "acme", "tiny", Direction.PROMPT)


class Analyzer:
    """Finds a person called Ada, fails at an x, and hangs at a y."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.texts: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, text: str) -> str | None:
        self.texts.append(text)
        self.threads.add(threading.get_ident())
        if "x" in text:
            raise ValueError(f"cannot read {text}")
        if "y" in text:
            self.gate.wait(10)
        return "PERSON" if "Ada" in text else None


async def outcome(reviewer: PresidioReviewer, text: str) -> str:
    try:
        await reviewer.review(CONTEXT, text)
    except Blocked as verdict:
        return f"blocked: {verdict.rule}"
    except ReviewError as error:
        return f"failed: {error}"
    return "allowed"


def reviewing(analyzer: Analyzer, **options: Any) -> PresidioReviewer:
    return PresidioReviewer(PresidioConfig(**options), lambda: 1000.0, lambda _: analyzer)


async def test_what_is_found_blocks_and_is_told_by_kind() -> None:
    analyzer = Analyzer()
    reviewer = reviewing(analyzer)
    assert isinstance(reviewer, Reviewer)
    told = [await outcome(reviewer, text) for text in ("Ada", "Ada", "fine")]
    assert told == ["blocked: presidio.person", "blocked: presidio.person", "allowed"]
    assert analyzer.texts == ["Ada", "fine"]
    assert threading.get_ident() not in analyzer.threads, "the event loop is free meanwhile"
    await reviewer.close()


async def test_a_failure_lets_nothing_through_and_repeats_nothing() -> None:
    reviewer = reviewing(Analyzer())
    assert await outcome(reviewer, "x marks Ada") == "failed: Presidio: ValueError"
    await reviewer.close()


async def test_a_text_that_takes_too_long_fails_and_so_does_whoever_waits_behind_it() -> None:
    analyzer = Analyzer()
    reviewer = reviewing(analyzer, timeout=0.05)
    for text in ("y", "fine"):
        assert await outcome(reviewer, text) == "failed: no answer of Presidio within 0.05 seconds"
    analyzer.gate.set()
    assert await outcome(reviewing(Analyzer()), "fine") == "allowed"
    assert "fine" not in analyzer.texts
    await reviewer.close()


async def test_a_text_that_is_too_long_fails() -> None:
    reviewer = reviewing(Analyzer(), max_bytes=1024)
    assert "max_bytes" in await outcome(reviewer, "é" * 513)
    await reviewer.close()


def test_registration_loads_neither_presidio_nor_threads() -> None:
    program = "import inferflux_guardrail_presidio.plugin, sys; print('spacy' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ended.stdout.strip() == b"False"


@pytest.mark.skipif(
    importlib.util.find_spec("presidio_analyzer") is not None, reason="Presidio is installed here"
)
def test_without_presidio_the_start_says_what_to_install() -> None:
    (spec,) = inferflux_guardrails()
    with pytest.raises(PluginError, match=r"(?s)presidio_analyzer|spacy.*inferflux\[presidio\]"):
        spec.factory(PresidioConfig())


@pytest.mark.parametrize(
    "options",
    [
        {"entities": []},
        {"threshold": 2},
        {"language": "../en"},
        {"action": "mask"},
        {"max_bytes": 2_000_000},
        {"timeout": 60},
    ],
)
def test_unknown_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, PresidioConfig)
