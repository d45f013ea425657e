"""Checks on text that enters and leaves a model.

A guardrail opens one `TextFilter` per stream of text: the prompt of a request, or one choice of its
answer. A filter is fed pieces as they arrive and returns what may be released; it holds back whatever
could still become part of a match, so its joined output never depends on how the text was cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

__all__ = ["Blocked", "Direction", "Guardrail", "GuardrailContext", "TextFilter"]


class Direction(Enum):
    """Which way the text flows."""

    PROMPT = "prompt"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class GuardrailContext:
    """What a guardrail may know about the request it inspects."""

    request_id: str
    tenant: str
    model: str
    direction: Direction


class Blocked(Exception):  # noqa: N818 - a verdict, not an error
    """Raised by a filter to stop the text. `rule` is a category; it never repeats what matched."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class TextFilter(Protocol):
    """Inspects one stream of text."""

    def feed(self, text: str) -> str:
        """Take the next piece; return the text that may be released now.

        Raises:
            Blocked: nothing that is still held back may be released.
        """

    def finish(self) -> str:
        """No more text will come: return what was held back.

        Raises:
            Blocked: as in `feed`.
        """


class Guardrail(Protocol):
    """A configured check."""

    def open(self, context: GuardrailContext) -> TextFilter:
        """Start inspecting one stream of text."""
