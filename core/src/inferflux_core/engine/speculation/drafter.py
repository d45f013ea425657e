"""The contract between the engine and whatever guesses tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from inferflux_core.engine.request import Request

__all__ = ["Drafter"]


class Drafter(Protocol):
    """Guesses how sequences go on. Used from the engine's thread only."""

    def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
        """Guess what follows each request's `token_ids`; at most `num_tokens` each, often none."""

    def forget(self, request: Request) -> None:
        """A request has ended, or has lost its slot."""

    def close(self) -> None:
        """Free what the drafter holds."""
