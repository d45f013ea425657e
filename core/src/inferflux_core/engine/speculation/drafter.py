"""The contract between the engine and whatever guesses tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from inferflux_core.engine.request import Request

__all__ = ["Drafter"]


class Drafter(Protocol):
    """Guesses how sequences go on. Used from the engine's thread only."""

    @property
    def name(self) -> str:
        """What people know it by, in logs."""

    def accepts(self, request: Request, num_tokens: int) -> bool:
        """Whether it would try to guess `num_tokens` tokens of a request now."""

    def seconds(self, requests: Sequence[Request], num_tokens: int) -> float:
        """What `propose` would take; 0 if that is nothing beside a pass, or unknown."""

    def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
        """Guess what follows each request's `token_ids`; at most `num_tokens` each, often none.

        Raises:
            RunnerError: it cannot go on, and is of no more use.
        """

    def forget(self, request: Request) -> None:
        """A request has ended, or has lost its slot."""

    def close(self) -> None:
        """Free what the drafter holds."""
