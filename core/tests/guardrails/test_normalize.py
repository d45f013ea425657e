# ruff: noqa: RUF001 - look-alikes are the subject
from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferflux_core.guardrails.normalize import fold, fold_char


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("SECRET", "secret"),
        ("s\u200be\u200dc\u2060r\ufefft", "secrt"),
        ("se\u00adcret", "secret"),
        ("s\x00e\x08cret", "secret"),
        ("\u202esecret\u202c", "secret"),
        ("s\u0301e\u0327c\u0338ret", "secret"),
        ("sécrèt", "secret"),
        ("ѕесгет", "secret"),
        ("ѕεсrετ", "secret"),
        ("ＳＥＣＲＥＴ", "secret"),
        ("𝓼𝓮𝓬𝓻𝓮𝓽", "secret"),
        ("ⓢⓔⓒⓡⓔⓣ", "secret"),
        ("ꜱᴇᴄʀᴇᴛ", "secret"),
        ("ﬁﬀ", "fiff"),
        ("Straße", "strasse"),
        ("STRAẞE", "strasse"),
        ("İıI", "iii"),
        ("a\u00a0b\tc\r\nd\u2028e\u3000f", "a b c  d e f"),
        ("s\u3164e\u115fcret", "secret"),
    ],
)
def test_disguises_fold_to_what_a_reader_sees(disguised: str, plain: str) -> None:
    assert fold(disguised) == plain


@pytest.mark.parametrize("word", ["ΝΑΥΣ", "ΗΜΕΡΑ", "ВОДКА", "ÅNGSTRÖM", "ՀԱՅ", "ΣΊΣΥΦΟΣ"])
def test_case_never_matters(word: str) -> None:
    assert fold(word) == fold(word.lower()) == fold(word.title())


def test_folding_is_stable_for_every_character() -> None:
    step = 7  # every seventh code point: all of them take seconds
    unstable = [
        hex(code)
        for code in range(0, sys.maxunicode + 1, step)
        if fold(fold_char(chr(code))) != fold_char(chr(code))
    ]
    assert unstable == []


@given(st.text(), st.text())
def test_folding_does_not_depend_on_the_cut(left: str, right: str) -> None:
    assert fold(left) + fold(right) == fold(left + right)
