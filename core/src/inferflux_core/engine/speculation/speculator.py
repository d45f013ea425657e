"""When to draft, and how far."""

from __future__ import annotations

from collections.abc import Sequence

from inferflux_core.engine.request import Request

__all__ = ["Speculator"]


class Speculator:
    """Sets `draft_token_ids` of requests that are about to generate, where that is expected to pay."""

    num_drafted: int = 0
    num_accepted: int = 0

    def draft(self, generating: Sequence[Request]) -> None:
        """Give requests drafts for the coming step, or none.

        Args:
            generating: all requests that will compute a token in this step.
        """

    def observe(self, request: Request, proposed: int, accepted: int) -> None:
        """Learn how many of a request's drafts the model agreed with."""

    def forget(self, request: Request) -> None:
        """A request has ended, or has lost its slot."""

    def close(self) -> None:
        """Free the drafter."""
