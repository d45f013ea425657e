"""The built-in `blocklist` guardrail: stops text that contains a forbidden word, or masks the word.

A word matches anywhere, also inside a longer word, and however it is written: upper or lower case,
with look-alike letters, accents or invisible characters, with one or several spaces between its
parts. Not covered, because that would block innocent text: letters set apart (`w o r d`) and digits
that stand for letters.

Streams are exact: what is held back is precisely the end of the text that still begins a word, and
nothing of a word that matched is ever released. Where words overlap, the one that ends first is masked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import Blocked, GuardrailContext
from inferflux_core.guardrails.automaton import Automaton
from inferflux_core.guardrails.normalize import fold, fold_char

__all__ = ["MASK", "RULE", "Blocklist", "BlocklistConfig", "BlocklistFilter"]

RULE: Final = "blocklist"
MASK: Final = "[REDACTED]"
MAX_WORDS: Final = 50_000
MAX_WORD_LENGTH: Final = 512
MAX_TOTAL_LENGTH: Final = 1_000_000
"""Characters in all words together; an automaton of that size takes about 300 MB."""


class BlocklistConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words and phrases that may not pass, at most 50,000 of at most 512 characters each.

    Attributes:
        words: in any spelling.
        action: `block` stops the text, `mask` replaces the word by `[REDACTED]`.
    """

    words: list[str]
    action: Literal["block", "mask"] = "block"


class Blocklist:
    """The configured words, shared by all streams.

    Raises:
        ConfigError: there are too many words, or one is too long or empty.
    """

    def __init__(self, config: BlocklistConfig) -> None:
        self._automaton = Automaton(_checked(config.words))
        self._masks = config.action == "mask"

    def open(self, context: GuardrailContext) -> BlocklistFilter:
        """Start inspecting one stream of text."""
        del context  # the same words are forbidden to everybody
        return BlocklistFilter(self._automaton, masks=self._masks)


class BlocklistFilter:
    """Inspects one stream of text; see `inferflux_core.guardrails.TextFilter`."""

    def __init__(self, automaton: Automaton, *, masks: bool = False) -> None:
        self._automaton = automaton
        self._masks = masks
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
        released, start = "", 0
        for word_start, word_end in self._find(text, offset):
            if not self._masks:
                self._blocked = True
                self._held = ""
                raise Blocked(RULE)
            released += self._held[start:word_start] + MASK
            start = word_end
        places = self._places
        if not places:
            released += self._held[start:]
            self._held = ""
            return released
        cut = places[0]
        released += self._held[start:cut]
        self._held = self._held[cut:]
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

    def _find(self, text: str, offset: int) -> Iterator[tuple[int, int]]:
        """Read on; yield where in `_held` each word that is found begins and ends."""
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
                places.append(place)
                if length := accepts[state]:
                    yield places[-length], place + 1
                    # What else the character stands for is masked with it.
                    state = 0
                    places.clear()
                    break
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
