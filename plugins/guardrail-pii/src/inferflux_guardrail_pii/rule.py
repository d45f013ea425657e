"""How one kind of personal data is found in a text of which more may follow.

Whether a finding starts at a place may depend on one character before the place and on at most
`Rule.reach` characters from it on. A place is *decided* once no further text can change the answer; a
filter settles decided places only, from left to right, so its output does not depend on how the text
was cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from inferflux_guardrail_pii.config import Entity

__all__ = ["Rule", "Span"]


class Span(NamedTuple):
    """A finding: `text[start:end]` is personal data."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Finds one kind of personal data.

    Attributes:
        entity: the kind.
        candidate: the longest text that may be a finding. Looks back at most one character; has no
            unbounded repetition.
        tail: matches at a place, up to the end of the text, if more text could begin, extend or
            spoil a candidate there.
        reach: how many characters from its start on a candidate depends on, look-ahead included.
        valid: tells a finding from a mere candidate, e.g. by its check digits.
    """

    entity: Entity
    candidate: re.Pattern[str]
    tail: re.Pattern[str]
    reach: int
    valid: Callable[[str], bool]

    def first_undecided(self, text: str, start: int) -> int:
        """The first place from `start` on that further text could change; else the text's end."""
        earliest = max(start, len(text) - self.reach + 1)
        match = self.tail.search(text, earliest)
        return match.start() if match else len(text)

    def find(self, text: str, start: int, limit: int) -> Span | None:
        """The first finding that starts in `text[start:limit]`; it may end behind `limit`."""
        while (match := self.candidate.search(text, start)) and match.start() < limit:
            start = match.start()
            for end in _ends(text, start, match.end()):
                if self.valid(text[start:end]):
                    return Span(start, end)
            start += 1
        return None


def _ends(text: str, start: int, longest: int) -> Iterator[int]:
    """Where a candidate may end, longest first: it may have swallowed text that follows it."""
    yield longest
    for end in range(longest - 1, start, -1):
        if text[end - 1].isalnum() and not text[end].isalnum():
            yield end
