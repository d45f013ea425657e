"""How people and models write what stands between letters and digits."""

from __future__ import annotations

from typing import Final

__all__ = ["DASHES", "NO_WORD_AFTER", "NO_WORD_BEFORE", "PLAIN", "SEPARATOR", "SPACES"]

SPACES: Final = " \u00a0\u2007\u2009\u202f"
DASHES: Final = "\u2010\u2011\u2012\u2013\u2212-"
"""Models like to write typographic hyphens and thin spaces. The ASCII hyphen is last, for `[...]`."""
SEPARATOR: Final = f"[{SPACES}{DASHES}]"
PLAIN: Final = str.maketrans(dict.fromkeys(SPACES, " ") | dict.fromkeys(DASHES, "-"))
NO_WORD_BEFORE: Final = "(?<![0-9A-Za-z])"
NO_WORD_AFTER: Final = "(?![0-9A-Za-z])"
