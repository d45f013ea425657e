from __future__ import annotations

import time
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inferflux_core.guardrails import Blocked, Direction, GuardrailContext
from inferflux_guardrail_pii.config import ENTITIES, Country, PIIConfig
from inferflux_guardrail_pii.guardrail import PIIGuardrail
from inferflux_guardrail_pii.rules import build_rules

CONTEXT = GuardrailContext("r-1", "default", "stub", Direction.OUTPUT)
EVERYTHING = PIIGuardrail(PIIConfig())
RULES = build_rules(ENTITIES, ["US", "DE"], get_args(Country))

SECRETS = [
    "john.doe@sub.example.co.uk",
    "4111 1111 1111 1111",
    "378282246310005",
    "DE89 3704 0044 0532 0130 00",
    "536-90-4399",
    "192.168.100.200",
    "2001:db8::ff00:42:8329",
    "::ffff:192.0.2.128",
    "+1 (415) 555-2671",
    "415-555-2671",
    "+44 20 7946 0958",
    "12345678Z",
    "2 55 08 14 168 025 38",
    "131052-308T",
    "390.533.447-05",
]
# Whole secrets, what they are made of, and what may stand beside them.
FRAGMENTS = [
    *SECRETS,
    *(part for secret in SECRETS for part in secret.replace("-", " ").split()),
    *" .-:@+()/,_%x7aÉß",
    "foo.bar@",
    ".uk",
    "::",
    "1.",
    "DE",
    "\u2011",
    "\u202f",
    "RCCMNL83S18D969H",
    "36 574 261 809",
    "word ",
]
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join) | st.text(
    alphabet="19DEea @.:-+(", max_size=40
)


def run(pieces: list[str]) -> str:
    text_filter = EVERYTHING.open(CONTEXT)
    return "".join(map(text_filter.feed, pieces)) + text_filter.finish()


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@given(text=texts, places=st.lists(st.integers(0, 200), max_size=12))
@example(text="foo.bar@sub.example.co.uk", places=[22])
@example(text="10.0.0.1.5", places=[9])
@example(text="a@b@c.com", places=[1, 3, 5])
def test_output_does_not_depend_on_the_pieces(text: str, places: list[int]) -> None:
    assert run(cut(text, places)) == run([text])


@given(text=texts)
def test_one_character_at_a_time_gives_the_same(text: str) -> None:
    assert run(list(text)) == run([text])


@given(text=texts, more=texts)
def test_no_further_text_changes_what_is_decided(text: str, more: str) -> None:
    for rule in RULES:
        decided = rule.first_undecided(text, 0)
        assert rule.find(text, 0, decided) == rule.find(text + more, 0, decided)


@pytest.mark.parametrize("secret", SECRETS)
def test_at_every_cut_of_a_secret_every_rule_waits(secret: str) -> None:
    for text in (f"x {secret}", f"x {secret}.5", f"x {secret}, and"):
        for place in range(len(text)):
            for rule in RULES:
                decided = rule.first_undecided(text[:place], 0)
                assert rule.find(text[:place], 0, decided) == rule.find(text, 0, decided)


@given(
    before=st.text(alphabet="abc ,\n", max_size=8),
    secret=st.sampled_from(SECRETS),
    after=st.sampled_from(["", " ", ". ", ", and", "\n", ")"]),
    places=st.lists(st.integers(0, 60), max_size=8),
)
def test_nothing_of_a_secret_leaves(
    before: str, secret: str, after: str, places: list[int]
) -> None:
    text_filter = EVERYTHING.open(CONTEXT)
    released = ""
    for piece in cut(f"{before} {secret}{after}", places):
        released += text_filter.feed(piece)
        assert f"{before} [".startswith(released[: len(before) + 2])
    released += text_filter.finish()
    assert released.startswith(f"{before} [")
    assert released.endswith(f"]{after}")


@pytest.mark.parametrize(
    "text", ["aaaa" * 500, "1 " * 500, "a.b@" * 500, "DE89 " * 500, "f:" * 900]
)
def test_what_is_held_back_is_bounded(text: str) -> None:
    text_filter = EVERYTHING.open(CONTEXT)
    held = 0
    for start in range(0, len(text), 8):
        held += 8 - len(text_filter.feed(text[start : start + 8]))
        assert held < max(rule.reach for rule in RULES)


def test_prose_flows() -> None:
    text_filter = EVERYTHING.open(CONTEXT)
    assert text_filter.feed("The quick brown fox, ") == "The quick brown fox, "
    assert text_filter.feed("it jump") == "it "
    assert text_filter.feed("s.") == ""
    assert text_filter.finish() == "jumps."


def test_streams_do_not_disturb_each_other() -> None:
    one, other = EVERYTHING.open(CONTEXT), EVERYTHING.open(CONTEXT)
    assert one.feed("john@exam") == ""
    assert other.feed("ple.com ") == "ple.com "
    assert one.feed("ple.com ") == "[EMAIL] "


@pytest.mark.parametrize("size", [1, 5, 100])
def test_blocking_stops_the_stream_for_good(size: int) -> None:
    text_filter = PIIGuardrail(PIIConfig(actions={"card": "block"})).open(CONTEXT)
    text = "Ask a@x.com: 4111 1111 1111 1111, bye"
    released: list[str] = []
    pieces = (text[start : start + size] for start in range(0, len(text), size))
    with pytest.raises(Blocked) as verdict:
        released.extend(map(text_filter.feed, pieces))
    assert verdict.value.rule == "pii.card"
    assert "Ask [EMAIL]: ".startswith("".join(released))
    with pytest.raises(Blocked):
        text_filter.feed("more")
    with pytest.raises(Blocked):
        text_filter.finish()


@pytest.mark.parametrize("unit", ["a", "a.", "a@a.", "1 ", "1-", "::", "(", "DE89 ", "+1"])
def test_no_text_makes_it_slow(unit: str) -> None:
    """Patterns that try a text again from each of its characters would take minutes."""
    text = unit * (20_000 // len(unit)) + "!"
    begun = time.process_time()
    run([text])
    assert time.process_time() - begun < 5
