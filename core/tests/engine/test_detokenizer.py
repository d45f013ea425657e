from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferflux_core.backends.byte_tokenizer import ByteTokenizer
from inferflux_core.engine.detokenizer import Detokenizer


def feed(text: str, stop: list[str] | None = None) -> tuple[list[str], Detokenizer]:
    detokenizer = Detokenizer(ByteTokenizer().piece, stop or [])
    parts = []
    for byte in text.encode():
        parts.append(detokenizer.feed(byte))
        if detokenizer.stopped:
            break
    parts.append(detokenizer.finish())
    return parts, detokenizer


@given(st.text())
def test_joined_text_is_the_text(text: str) -> None:
    parts, _ = feed(text)
    assert "".join(parts) == text


def test_a_character_is_never_split() -> None:
    parts, _ = feed("é🦜")
    assert parts == ["", "é", "", "", "", "🦜", ""]


def test_an_unfinished_character_becomes_a_replacement() -> None:
    detokenizer = Detokenizer(ByteTokenizer().piece)
    assert detokenizer.feed("é".encode()[0]) == ""
    assert detokenizer.finish() == "\ufffd"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one END two", ["END"], "one "),
        ("aab", ["ab"], "a"),
        ("aaab", ["aab"], "a"),
        ("xEN", ["END"], "xEN"),
        ("first second", ["second", "st"], "fir"),
        ("ab", ["ab"], ""),
        ("naïve end", ["ïv"], "na"),
    ],
)
def test_stop_strings(text: str, stop: list[str], expected: str) -> None:
    parts, detokenizer = feed(text, stop)
    assert "".join(parts) == expected
    assert detokenizer.stopped is (expected != text)


@given(
    st.text("ab", max_size=30),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_no_part_of_a_stop_string_leaves(text: str, stop: list[str]) -> None:
    parts, _ = feed(text, stop)
    # The naive reading: cut at the stop string that is complete first; the earliest start wins.
    for end in range(len(text) + 1):
        starts = [i for s in stop if (i := text[:end].find(s)) >= 0]
        if starts:
            assert "".join(parts) == text[: min(starts)]
            return
    assert "".join(parts) == text
