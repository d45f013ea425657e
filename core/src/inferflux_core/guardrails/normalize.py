"""What a reader sees in a text, one character at a time.

Characters that look alike fold to the same letter, and characters nobody sees fold to nothing, so
that a word is recognised however it is disguised. Folding goes by character, so it does not matter
where a text is cut: the fold of a text is the concatenation of the folds of its characters.
"""
# ruff: noqa: RUF001, RUF003 - look-alikes are the subject of this module

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

__all__ = ["fold", "fold_char"]

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Me", "Mn"})
_LINE_BREAKS_AND_TABS: Final = frozenset("\t\n\v\f\r\x85")
_BLANKS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that are drawn as nothing: Hangul fillers, the empty Braille pattern."""

# Each letter has one look. Where a Greek capital and its small letter resemble different Latin
# letters (Νν, Ηη, Υυ), the small one decides: folding must not tell capitals from small letters.
_LOOKALIKES: Final = str.maketrans(
    {
        lookalike: letter
        for letter, lookalikes in {
            "a": "αаɑᴀ",
            "b": "βвьʙ",
            "c": "сᴄ",
            "d": "ԁđᴅ",
            "e": "εеєᴇ",
            "f": "ꜰ",
            "g": "ɡɢց",
            "h": "нһħʜհ",
            "i": "ιіıɪӏ",
            "j": "јȷᴊ",
            "k": "κкᴋ",
            "l": "łʟ",
            "m": "μмᴍ",
            "n": "ηɴոп",
            "o": "οоøᴏօ",
            "p": "ρрᴘ",
            "q": "ԛ",
            "r": "гʀ",
            "s": "ѕꜱ",
            "t": "τтŧᴛ",
            "u": "υᴜս",
            "v": "νѵᴠ",
            "w": "ωԝᴡ",
            "x": "χх",
            "y": "уγʏ",
            "z": "ζᴢ",
        }.items()
        for lookalike in lookalikes
    }
)


@lru_cache(maxsize=16_384)
def fold_char(char: str) -> str:
    """Fold one character by compatibility decomposition, case and looks.

    Args:
        char: one code point.

    Returns:
        Zero or more characters: `ﬁ` gives two, a zero-width joiner none, any white space one space.
    """
    decomposed = unicodedata.normalize("NFKD", char)
    # Case folding may compose again: `ᾳ` becomes two letters, some of them with marks.
    folded = unicodedata.normalize("NFKD", _visible(decomposed).casefold())
    return _visible(folded).translate(_LOOKALIKES)


def fold(text: str) -> str:
    """Fold a text; equals joining `fold_char` of its characters."""
    return "".join(map(fold_char, text))


def _visible(text: str) -> str:
    return "".join(map(_visible_char, text))


def _visible_char(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] == "Z" or char in _LINE_BREAKS_AND_TABS:
        return " "
    return "" if category in _INVISIBLE or char in _BLANKS else char
