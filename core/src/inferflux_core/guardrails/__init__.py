"""Checks on text that enters and leaves a model.

A guardrail opens one `TextFilter` per stream of text: the prompt of a request, or one choice of its
answer. A filter is fed pieces as they arrive and returns what may be released; it holds back whatever
could still become part of a match, so its joined output never depends on how the text was cut.

A guardrail that has to ask somebody else is a `Reviewer` instead: it may wait, and judges whole texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

__all__ = ["Blocked", "Direction", "Guardrail", "GuardrailContext", "Reviewer", "TextFilter"]


class Direction(Enum):
    """Which way the text flows."""

    PROMPT = "prompt"
    OUTPUT = "output"


def _nobody_cares(rule: str) -> None:
    """What happens to a finding outside a server."""


@dataclass(frozen=True, slots=True)
class GuardrailContext:
    """What a guardrail may know about the request it inspects.

    Attributes:
        request_id: of the server's own making.
        tenant: whose request it is.
        model: that is asked.
        direction: of the text.
        flag: notes a finding that may pass, by its category, as in `Blocked`.
    """

    request_id: str
    tenant: str
    model: str
    direction: Direction
    flag: Callable[[str], None] = _nobody_cares


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


@runtime_checkable
class Reviewer(Protocol):
    """A configured check that waits for its answer, such as one that asks a policy server.

    It runs after all guardrails of the other kind and sees what they let through: a prompt as a whole,
    and of an answer everything that was written so far.

    Attributes:
        directions: the texts it wants to see.
        piece: characters of an answer that are held back until it has seen them; None holds back the
            whole answer.
    """

    @property
    def directions(self) -> frozenset[Direction]:
        """See above."""

    @property
    def piece(self) -> int | None:
        """See above."""

    async def review(self, context: GuardrailContext, text: str) -> None:
        """Judge a text.

        Raises:
            Blocked: it may not pass.
        """

    async def close(self) -> None:
        """Let go of connections."""
