# ruff: noqa: RUF001 - look-alikes are the subject
from __future__ import annotations

import re
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext, TextFilter
from inferflux_core.guardrails.blocklist import Blocklist, BlocklistConfig
from inferflux_core.guardrails.builtin import inferflux_guardrails
from inferflux_core.guardrails.normalize import fold, fold_char

CONTEXT = GuardrailContext("r-1", "default", "stub", Direction.OUTPUT)
# Overlaps, a word inside another, a repeated prefix, a phrase, foldings that change the length.
WORDS = ["she", "hers", "aab", "aabaac", "bad idea", "straße", "ﬁb", "водка"]
FRAGMENTS = [
    *WORDS,
    *"sherabc fi",
    "SHE",
    "ѕһе",
    "ｓｈｅ",
    "s\u200bh\u0301e",
    "bad \u00a0\n idea",
    "STRASSE",
    "ß",
    "aabaa",
    "VODKA",
    "\u200b",
    "\u0301",
    "😀",
    "héllo ",
]
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join) | st.text(max_size=30)


def open_filter(words: list[str] = WORDS) -> TextFilter:
    return Blocklist(BlocklistConfig(words=words)).open(CONTEXT)


def run(text_filter: TextFilter, pieces: list[str]) -> tuple[str, bool]:
    """What was released, and whether the text was stopped."""
    released = ""
    try:
        for piece in pieces:
            released += text_filter.feed(piece)
        return released + text_filter.finish(), False
    except Blocked:
        return released, True


def innocent_prefix(text: str, words: list[str]) -> str | None:
    """The text before the first word that becomes complete, found the slow way; None without any."""
    seen, sources = "", []
    for source, char in enumerate(text):
        for folded in fold_char(char):
            if folded == " " and seen.endswith(" "):
                continue
            seen += folded
            sources.append(source)
            matches = [len(word) for word in map(fold, words) if seen.endswith(word)]
            if matches:
                return text[: sources[len(seen) - max(matches)]]
    return None


def collapse(text: str) -> str:
    return re.sub(" +", " ", text)


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@given(text=texts, places=st.lists(st.integers(0, 60), max_size=10))
@example(text="ushers", places=[1, 2, 3, 4, 5])
@example(text="aabaabaac", places=[5])
@example(text="bad  ", places=[4])
def test_any_partition_gives_the_verdict_and_text_of_a_naive_search(
    text: str, places: list[int]
) -> None:
    released, blocked = run(open_filter(), cut(text, places))
    innocent = innocent_prefix(text, WORDS)
    if innocent is None:
        assert (released, blocked) == (text, False)
    else:
        assert blocked
        assert innocent.startswith(released)


@given(text=texts)
def test_every_single_cut_leaks_nothing(text: str) -> None:
    innocent = innocent_prefix(text, WORDS)
    for place in range(len(text) + 1):
        released, blocked = run(open_filter(), [text[:place], text[place:]])
        assert blocked == (innocent is not None)
        assert (text if innocent is None else innocent).startswith(released)


@given(text=texts)
def test_only_a_word_under_way_is_held_back(text: str) -> None:
    text_filter = open_filter()
    held = ""
    for char in text:
        try:
            held = (held + char).removeprefix(text_filter.feed(char))
        except Blocked:
            return
    # A character that folds to several, such as `ß`, may belong to the word with its last ones only.
    seen = collapse(fold(held))
    endings = [seen[start:] for start in range(len(fold(held[:1])))]
    assert not held or any(fold(word).startswith(tuple(endings)) for word in WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        "top-SECRETs",
        "s\u200be\u200bc\u200br\u200be\u200bt",
        "se\u00adcret",
        "sécrét",
        "ѕесгет",
        "ｓｅｃｒｅｔ",
        "𝐬𝐞𝐜𝐫𝐞𝐭",
        "\u202esecret",
    ],
)
def test_disguises_are_recognised(text: str) -> None:
    released, blocked = run(open_filter(["secret"]), list(text))
    assert blocked
    assert fold(released) in {"", "top-"}


@pytest.mark.parametrize("text", ["s e c r e t", "53cr37", "secre", "sec-ret", "terces"])
def test_what_the_manual_excludes_passes(text: str) -> None:
    assert run(open_filter(["secret"]), list(text)) == (text, False)


def test_after_a_verdict_nothing_ever_comes_out() -> None:
    text_filter = open_filter(["secret"])
    assert text_filter.feed("a sec") == "a "
    with pytest.raises(Blocked):
        text_filter.feed("ret and more")
    with pytest.raises(Blocked):
        text_filter.feed("innocent")
    with pytest.raises(Blocked):
        text_filter.finish()


def test_streams_of_one_guardrail_do_not_disturb_each_other() -> None:
    guardrail = Blocklist(BlocklistConfig(words=["secret"]))
    one, other = guardrail.open(CONTEXT), guardrail.open(CONTEXT)
    assert one.feed("sec") == ""
    assert other.feed("ret") == "ret"
    assert one.finish() == "sec"


def test_the_verdict_never_repeats_the_word() -> None:
    with pytest.raises(Blocked) as verdict:
        open_filter(["secret"]).feed("a secret")
    assert (verdict.value.rule, str(verdict.value)) == ("blocklist", "blocklist")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([""], "no visible character"),
        (["fine", " \t\n"], "word 1 has no visible character"),
        (["\u200b\u0301\u00ad"], "no visible character"),
        (["x" * 513], "513 characters"),
        (["x"] * 50_001, "50001 words"),
        (["ﷺ" * 512] * 120, "characters in all words together"),
    ],
)
def test_unusable_lists_are_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Blocklist(BlocklistConfig(words=words))


def test_limits_are_inclusive() -> None:
    assert run(open_filter(["x" * 512]), ["x" * 511]) == ("x" * 511, False)
    assert run(open_filter(["x" * 512]), ["x" * 512]) == ("", True)


def test_edge_spaces_of_a_word_mean_nothing() -> None:
    assert run(open_filter([" secret "]), ["secret"]) == ("", True)


def test_an_empty_list_blocks_nothing() -> None:
    assert run(open_filter([]), ["any", "thing"]) == ("anything", False)


def test_it_registers_itself() -> None:
    (spec,) = inferflux_guardrails()
    config = msgspec.convert({"words": ["secret"]}, spec.config_type)
    assert spec.name == "blocklist"
    assert run(spec.factory(config).open(CONTEXT), ["secret"]) == ("", True)


@pytest.mark.parametrize(
    ("words", "text", "masked"),
    [
        (["secret"], "a secret, SECRETLY", "a [REDACTED], [REDACTED]LY"),
        (["bc", "abcd"], "abcd", "a[REDACTED]d"),
        (["abc", "bc"], "abc", "[REDACTED]"),
        (["a b"], "xa  by", "x[REDACTED]y"),
        (["f"], "oﬁ!", "o[REDACTED]!"),
        (["aa"], "aaaaa", "[REDACTED][REDACTED]a"),
        # What takes the place of a word is not looked at again.
        (["redacted", "[r"], "[r redacted", "[REDACTED] [REDACTED]"),
    ],
)
def test_masking_replaces_the_word_that_ends_first(
    words: list[str], text: str, masked: str
) -> None:
    guardrail = Blocklist(BlocklistConfig(words=words, action="mask"))
    for pieces in ([text], list(text)):
        text_filter = guardrail.open(CONTEXT)
        assert "".join(map(text_filter.feed, pieces)) + text_filter.finish() == masked
