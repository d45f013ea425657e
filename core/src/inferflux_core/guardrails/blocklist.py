"""The built-in `blocklist` guardrail: stops text that contains a forbidden word.

A word matches anywhere, also inside a longer word, and however it is written: upper or lower case,
with look-alike letters, accents or invisible characters, with one or several spaces between its
parts. Not covered, because that would block innocent text: letters set apart (`w o r d`) and digits
that stand for letters.

Streams are exact: what is held back is precisely the end of the text that still begins a word, and
nothing of a word that matched is ever released.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import Blocked, GuardrailContext
from inferflux_core.guardrails.automaton import Automaton
from inferflux_core.guardrails.normalize import fold, fold_char

__all__ = ["RULE", "Blocklist", "BlocklistConfig", "BlocklistFilter"]

RULE: Final = "blocklist"
MAX_WORDS: Final = 50_000
MAX_WORD_LENGTH: Final = 512
MAX_TOTAL_LENGTH: Final = 1_000_000
"""Characters in all words together; an automaton of that size takes about 300 MB."""


class BlocklistConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words and phrases that may not pass, at most 50,000 of at most 512 characters each."""

    words: list[str]


class Blocklist:
    """The configured words, shared by all streams.

    Raises:
        ConfigError: there are too many words, or one is too long or empty.
    """

    def __init__(self, config: BlocklistConfig) -> None:
        self._automaton = Automaton(_checked(config.words))

    def open(self, context: GuardrailContext) -> BlocklistFilter:
        """Start inspecting one stream of text."""
        del context  # the same words are forbidden to everybody
        return BlocklistFilter(self._automaton)


class BlocklistFilter:
    """Inspects one stream of text; see `inferflux_core.guardrails.TextFilter`."""

    def __init__(self, automaton: Automaton) -> None:
        self._automaton = automaton
        self._state = 0
        self._held = ""
        # Where in `_held` each folded character of the word that may be under way comes from.
        self._places: deque[int] = deque()
        self._after_space = False
        self._blocked = False

    def feed(self, text: str) -> str:
        """Take the next piece; return what no longer can be part of a forbidden word.

        Raises:
            Blocked: a forbidden word is complete, now or in an earlier piece.
        """
        if self._blocked:
            raise Blocked(RULE)
        offset = len(self._held)
        self._held += text
        self._read(text, offset)
        places = self._places
        if not places:
            released, self._held = self._held, ""
            return released
        cut = places[0]
        released, self._held = self._held[:cut], self._held[cut:]
        self._places = deque(place - cut for place in places)
        return released

    def finish(self) -> str:
        """Return what was held back: the word under way can no longer be completed.

        Raises:
            Blocked: a forbidden word was found earlier.
        """
        if self._blocked:
            raise Blocked(RULE)
        released, self._held = self._held, ""
        self._places.clear()
        self._state = 0
        return released

    def _read(self, text: str, offset: int) -> None:
        step, accepts, depth = self._automaton.step, self._automaton.accepts, self._automaton.depth
        places, state, after_space = self._places, self._state, self._after_space
        for place, char in enumerate(text, offset):
            for folded in fold_char(char):
                space = folded == " "
                if space and after_space:
                    continue
                after_space = space
                state = step(state, folded)
                if not state:
                    places.clear()
                    continue
                if accepts[state]:
                    self._blocked = True
                    self._held = ""
                    raise Blocked(RULE)
                places.append(place)
                while len(places) > depth[state]:
                    places.popleft()
        self._state, self._after_space = state, after_space


def _checked(words: list[str]) -> Iterator[str]:
    if len(words) > MAX_WORDS:
        raise ConfigError(
            f"blocklist: {len(words)} words, at most {MAX_WORDS} are allowed",
            hint="Remove words that contain another word of the list; they match anyway.",
        )
    total = 0
    for position, word in enumerate(words):
        if len(word) > MAX_WORD_LENGTH:
            raise ConfigError(
                f"blocklist: word {position} has {len(word)} characters, "
                f"at most {MAX_WORD_LENGTH} are allowed",
                hint="Shorten it to the part that makes it forbidden.",
            )
        # One space, as the filter sees it; an edge space of a comma-separated list means nothing.
        folded = " ".join(fold(word).split())
        if not folded:
            raise ConfigError(
                f"blocklist: word {position} has no visible character",
                hint="An empty word would block every text; remove it.",
            )
        total += len(folded)
        if total > MAX_TOTAL_LENGTH:
            raise ConfigError(
                f"blocklist: more than {MAX_TOTAL_LENGTH} characters in all words together",
                hint="Shorten long phrases to the part that makes them forbidden.",
            )
        yield folded
