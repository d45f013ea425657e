"""Several ways to guess."""

from __future__ import annotations

from collections.abc import Sequence

from inferflux_core.engine.request import Request
from inferflux_core.engine.speculation.drafter import Drafter

__all__ = ["CombinedDrafter"]


class CombinedDrafter:
    """Asks drafters in order; each about the requests that those before it had no guess for."""

    def __init__(self, drafters: Sequence[Drafter]) -> None:
        self._drafters = tuple(drafters)

    def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
        """The first guess there is for each request."""
        drafts: list[list[int]] = [[] for _ in requests]
        for drafter in self._drafters:
            open_ = [index for index, draft in enumerate(drafts) if not draft]
            if not open_:
                break
            found = drafter.propose([requests[index] for index in open_], num_tokens)
            for index, draft in zip(open_, found, strict=True):
                drafts[index] = draft
        return drafts

    def forget(self, request: Request) -> None:
        """Tell all of them."""
        for drafter in self._drafters:
            drafter.forget(request)

    def close(self) -> None:
        """Close all of them."""
        for drafter in self._drafters:
            drafter.close()
