"""What drafters of tests have in common."""

from __future__ import annotations

from collections.abc import Sequence

from inferflux_core.engine.request import Request

__all__ = ["FreeDrafter"]


class FreeDrafter:
    """Guesses about every request, at no cost; how is left to `propose` of the class derived from it."""

    name = "a test's drafter"

    def accepts(self, request: Request, num_tokens: int) -> bool:
        """Any."""
        return True

    def seconds(self, requests: Sequence[Request], num_tokens: int) -> float:
        """Nothing."""
        return 0.0

    def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
        """Guess."""
        raise NotImplementedError

    def forget(self, request: Request) -> None:
        """Nothing is kept of a request."""

    def close(self) -> None:
        """Nothing to free."""
