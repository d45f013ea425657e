"""However a text is cut into pieces, guardrails say of it what they say of the whole.

`GUARDRAIL_CASES` says how many random cases there shall be.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from inferflux_api.answers import parsed_delta
from inferflux_api.choices import Choice
from inferflux_api.generation import Delta
from inferflux_api.governance.answers import AnswerGuard
from inferflux_api.governance.filters import Rule
from inferflux_api.governance.guardrails import GuardrailPipeline
from inferflux_core.guardrails import Blocked, Direction, Guardrail, GuardrailContext
from inferflux_core.guardrails.blocklist import Blocklist, BlocklistConfig
from inferflux_core.plugins import PluginManager
from inferflux_core.tool_calls.formats import FORMATS, ReasoningMarkers
from inferflux_core.tool_calls.parser import AnswerParser

CASES = int(os.environ.get("GUARDRAIL_CASES", "400"))
CONTEXT = GuardrailContext("r-1", "default", "stub", Direction.OUTPUT)
WORDS = ["secret", "secretary general", "ret", "a b", "strasse", "fi", "xyzzy", "secre!"]
FRAGMENTS = [
    *WORDS,
    *("sec", "SECRET", "Śécrét", "ѕесret", "se\u200bcret", "a  b", "a\u00a0", "ﬁ", "straße"),  # noqa: RUF001
    *("john.doe@sub.example", ".co.uk", "4111 1111 ", "1111 1111", "4111111111111111", "DE89 3704"),
    *(" 0044 0532 0130 00", "2001:db8::ff", "+1 (415) 555", "-2671", "390.533.447-05", "12345678Z"),
    *" .-:@+()/,x7aÉß\n",
    *("word ", "and ", "\u202f", "\u2011"),
]


def guardrail(name: str, **options: Any) -> Guardrail:
    plugins = PluginManager()
    spec = plugins.guardrail(name)
    made = spec.factory(plugins.options(spec, options))
    assert hasattr(made, "open")
    return made


def blocklist(action: Any, words: Sequence[str] = WORDS) -> Guardrail:
    return Blocklist(BlocklistConfig(words=list(words), action=action))


ALONE: dict[str, Guardrail] = {
    "blocks words": blocklist("block"),
    "masks words": blocklist("mask"),
    "masks data": guardrail("pii", phone_regions=["US", "DE"]),
    "blocks data": guardrail("pii", action="block"),
    "mixed": guardrail("pii", actions={"email": "flag", "card": "block"}),
}
RARE = blocklist("block", ["xyzzy"])
CHAINS: dict[str, GuardrailPipeline] = {
    **{name: GuardrailPipeline({name: each}) for name, each in ALONE.items()},
    "words, data": GuardrailPipeline({"a": ALONE["masks words"], "b": ALONE["masks data"]}),
    "data, words": GuardrailPipeline({"a": ALONE["masks data"], "b": ALONE["masks words"]}),
    "data, rare": GuardrailPipeline({"a": ALONE["masks data"], "b": RARE}),
    "mixed, rare": GuardrailPipeline({"a": ALONE["mixed"], "b": RARE}),
    "flagged, data": GuardrailPipeline(
        {"a": ALONE["blocks words"], "b": ALONE["masks data"]}, {"a": Rule("flag")}
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What was released, and whether it ended there."""

    released: str
    blocked: bool


def run(pipeline: GuardrailPipeline, pieces: Sequence[str]) -> Outcome:
    released = ""
    chain = pipeline.inspect(CONTEXT).open()
    try:
        for piece in pieces:
            released += chain.feed(piece)
        released += chain.finish()
    except Blocked:
        return Outcome(released, blocked=True)
    return Outcome(released, blocked=False)


def cut(draw: random.Random, text: str) -> list[str]:
    places = sorted(draw.randint(0, len(text)) for _ in range(draw.randint(0, 12)))
    edges = [0, *places, len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CHAINS)
def test_pieces_of_a_text(name: str) -> None:
    pipeline, draw, differences, blocked = CHAINS[name], random.Random(name), 0, 0
    for _ in range(CASES):
        text = "".join(draw.choices(FRAGMENTS, k=draw.randint(0, 10)))
        # Whatever can leave before a verdict does, one character at a time.
        finest, whole, pieces = (run(pipeline, cuts) for cuts in (text, [text], cut(draw, text)))
        verdicts = {whole.blocked, pieces.blocked, finest.blocked}
        same = whole.released == pieces.released == finest.released
        if whole.blocked:
            blocked += 1
            same = all(finest.released.startswith(each.released) for each in (whole, pieces))
        if len(verdicts) > 1 or not same:
            differences += 1
            print(repr(text), finest, whole, pieces)
    print(f"{name}: {CASES} cases, {blocked} blocked, {differences} differences")
    assert differences == 0
    assert blocked < CASES


SAID = [
    *("<think>", "</think>", "so ", "sec", "ret", "xyz", "zy", "me@example", ".com ", "fine. "),
    *("<tool_call>", "</tool_call>", '{"name": "look", "arguments": {"q": "', '"}}'),
    *('<tool_call>\n{"name": "look", "arguments": {"q": "fine"}}\n</tool_call>', r"\u0073ecret"),
    *(r"x\u0079zzy", '{"name": "look", "arguments": {"n": ', "4111111111111111", "}}", "\n"),
]
ANSWERS: dict[str, GuardrailPipeline] = {
    "blocks": GuardrailPipeline({"a": blocklist("block", ["secret", "xyzzy"])}),
    "masks": GuardrailPipeline(
        {"a": blocklist("mask", ["secret", "xyzzy"]), "b": ALONE["masks data"]}
    ),
}


async def answered(pipeline: GuardrailPipeline, pieces: Sequence[str]) -> Choice:
    parser = AnswerParser(
        {"look": {"type": "object"}}, FORMATS["hermes"], ReasoningMarkers("<think>", "</think>")
    )
    guard, choice = AnswerGuard(pipeline.inspect(CONTEXT)), Choice()
    for number, piece in enumerate(pieces, start=1):
        delta = Delta(0, piece, "stop" if number == len(pieces) else None)
        parsed = parsed_delta(delta, parser)
        choice.add(await guard.check(parsed, parser.num_calls))
        if choice.finish_reason:
            break
    return choice


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ANSWERS)
def test_pieces_of_an_answer_with_reasoning_and_calls(name: str) -> None:
    pipeline, draw, blocked = ANSWERS[name], random.Random(name), 0

    async def check() -> None:
        nonlocal blocked
        for _ in range(CASES):
            text = "".join(draw.choices(SAID, k=draw.randint(1, 9)))
            whole = await answered(pipeline, [text])
            pieces = await answered(pipeline, cut(draw, text))
            finest = await answered(pipeline, [*text, ""])
            seen = [
                (c.text, c.reasoning, [(x.name, x.arguments) for x in c.tool_calls])
                for c in (whole, pieces, finest)
            ]
            reasons = [c.finish_reason for c in (whole, pieces, finest)]
            if len(set(reasons)) > 1:
                # A finding on both sides of a call is masked if it comes at once, and blocked if not.
                assert name == "masks", (text, reasons)
                assert "</tool_call>" in text, (text, reasons)
            elif reasons[0] == "content_filter":
                blocked += 1
                assert finest.text.startswith(pieces.text), (text, seen)
                assert finest.reasoning.startswith(pieces.reasoning), (text, seen)
            else:
                assert seen[0] == seen[1] == seen[2], (text, seen)
            words = ["secret", "xyzzy", *(["example.com"] if name == "masks" else [])]
            for outcome in seen:
                for forbidden in words:
                    assert forbidden not in repr(outcome), (text, seen)

    asyncio.run(check())
    assert (blocked > 0) == (name == "blocks")
