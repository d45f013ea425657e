"""English-like prompts of a wanted length, the same on every run with the same seed."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Final

from bench import BenchError

__all__ = ["Calibration", "Prompts"]

_TEXT: Final = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an
they which one you were all her she there would their we him been has when who will no more if out
so up said what its about than into them can only other time new some could these two may first then
do any like my now over such our man me even most made after also well did many must before back see
through way where get much go good your know should down work year because come people just say each
those take day here long both between own under last never same another while house might school
still world great during against water home small place around found right high think every part
once left number course until always away something fact though less public put head far hand set
kind end does night early book order light city
"""
_WORDS: Final = _TEXT.split()
_SENTENCE: Final = 12
_LEAST_WORDS: Final = 4


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a model's tokenizer and template see our words: `tokens = fixed + per_word * words`."""

    fixed: float = 0.0
    per_word: float = 1.0

    @classmethod
    def fit(cls, short: tuple[int, int], long: tuple[int, int]) -> Calibration:
        """Fit a line through two (words, prompt tokens) measurements."""
        per_word = (long[1] - short[1]) / (long[0] - short[0])
        if per_word <= 0:
            raise BenchError(f"a longer prompt did not count more tokens: {short}, {long}")
        return cls(fixed=short[1] - per_word * short[0], per_word=per_word)

    def words(self, tokens: int) -> int:
        """Words that make `tokens` tokens without the template."""
        return round(tokens / self.per_word)


class Prompts:
    """An endless supply of prompts.

    No two share a beginning, except the shared prefix that is asked for: a server must not answer
    from a cache what was meant to be computed.
    """

    def __init__(
        self, calibration: Calibration, tokens: int, shared_tokens: int, seed: int
    ) -> None:
        """`tokens` counts the whole prompt, with the template and the shared prefix."""
        shared = calibration.words(shared_tokens)
        whole = calibration.words(tokens - round(calibration.fixed))
        self._seed = seed
        self._numbers = itertools.count()
        self._own_words = max(whole - shared, _LEAST_WORDS)
        self._prefix = text(shared, "shared") + "\n" if shared else ""

    def next(self) -> str:
        """The next prompt."""
        return self._prefix + text(self._own_words, f"{self._seed}/{next(self._numbers)}")


def text(words: int, seed: str) -> str:
    """Sentences of common words."""
    chosen = random.Random(seed).choices(_WORDS, k=words)
    sentences = (chosen[at : at + _SENTENCE] for at in range(0, words, _SENTENCE))
    return " ".join(" ".join(sentence).capitalize() + "." for sentence in sentences)
