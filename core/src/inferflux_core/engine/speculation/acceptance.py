"""How often guesses have proved right."""

from __future__ import annotations

from typing import Final

from inferflux_core.engine.request import Request

__all__ = ["Acceptance"]

_HOPE: Final = 0.8
"""Where text repeats itself, most guesses are right; where it does not, that shows after a step or two."""
_LEARNING: Final = 0.2
_GENERALISING: Final = 0.02
_FORGETTING: Final = 0.01


class Acceptance:
    """The chance that the next guess of one drafter is right, for each request."""

    def __init__(self) -> None:
        self._rates: dict[int, float] = {}
        self._typical = _HOPE

    def rate(self, request: Request) -> float:
        """The chance, from 0 to 1; a new request's is that of others."""
        return self._rates.setdefault(request.request_id, self._typical)

    def observe(self, request: Request, guessed: int, right: int) -> None:
        """Learn from a verification: of `guessed` tokens, at least one, the first `right` were right."""
        rate = self._rates.get(request.request_id)
        if rate is None:
            # It has ended, perhaps in the midst of its drafts: what came after shows nothing.
            return
        seen = right / (right + (right < guessed))
        self._rates[request.request_id] = rate + _LEARNING * (seen - rate)
        self._typical += _GENERALISING * (seen - self._typical)

    def relax(self, request: Request) -> None:
        """Trust it a little more: what went badly once may go well later on."""
        rate = self.rate(request)
        self._rates[request.request_id] = rate + _FORGETTING * (_HOPE - rate)

    def forget(self, request: Request) -> None:
        """A request has ended, or has lost its slot."""
        self._rates.pop(request.request_id, None)
