"""When to draft, and how far."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import RunnerCapabilities, RunnerError
from inferflux_core.engine.speculation.drafter import Drafter

__all__ = ["Speculator"]

logger = logging.getLogger("inferflux.speculation")

_WORTHWHILE: Final = 1.05
_HOPE: Final = 0.8
"""Where text repeats itself, most guesses are right; where it does not, that shows after a step or two."""
_LEARNING: Final = 0.2
_GENERALISING: Final = 0.02
_FORGETTING: Final = 0.01
_MAX_ROWS: Final = 64


@dataclass(slots=True)
class _Record:
    """How well a request's drafts have fared: `rate` is the chance that the next one is right."""

    rate: float


class Speculator:
    """Gives requests drafts where that is expected to pay.

    With `n` requests and `k` drafts each, a step takes as long as `n * (1 + k)` rows of decoding, and
    brings every request one token and as many drafts as prove right one after the other. The `k` that
    brings the most tokens per second is taken, if it brings notably more than none.

    Args:
        drafter: guesses. Owned.
        capabilities: of the runner that verifies.
        max_draft_tokens: most drafts per request and step.
    """

    def __init__(
        self, drafter: Drafter, capabilities: RunnerCapabilities, max_draft_tokens: int
    ) -> None:
        self._drafter: Drafter | None = drafter
        self._cost = capabilities.cost
        self._uniform = capabilities.uniform_rows
        self._most = min(max_draft_tokens, capabilities.max_draft_tokens)
        self._records: dict[int, _Record] = {}
        self._typical = _HOPE
        # Of the step at hand, by request: drafts that are guesses, not put there to fill up.
        self._guesses: dict[int, int] = {}
        self.num_drafted = 0
        self.num_accepted = 0

    def draft(self, generating: Sequence[Request]) -> None:
        """Give requests drafts for the coming step, or none.

        Args:
            generating: all requests that will compute a token in this step.
        """
        self._guesses.clear()
        # One whose next tokens are known needs no guesses.
        requests = [r for r in generating if r.num_pending_tokens == 1]
        rooms = [self._room(r) for r in requests]
        most = self._limit(rooms)
        if self._drafter is None or not self._can_pay(len(requests), most):
            return
        try:
            drafts = self._drafter.propose(requests, most)
        except RunnerError as error:
            self._switch_off(error)
            return
        drafts = [draft[:room] for draft, room in zip(drafts, rooms, strict=True)]
        if not any(drafts):
            return
        records = [self._records.setdefault(r.request_id, _Record(self._typical)) for r in requests]
        count = self._best_count(records, drafts, most)
        for request, record, draft in zip(requests, records, drafts, strict=True):
            if count:
                self._hand_out(request, draft[:count], count)
            elif draft:
                # What went badly once may go well later on.
                record.rate += _FORGETTING * (_HOPE - record.rate)

    def observe(self, request: Request, proposed: int, accepted: int) -> None:
        """Learn how many of a request's drafts the model agreed with; it may have ended with them."""
        record = self._records.get(request.request_id)
        guessed = min(proposed, self._guesses.get(request.request_id, 0))
        right = min(accepted, guessed)
        self.num_drafted += guessed
        self.num_accepted += right
        if record is not None and guessed:
            rate = right / (right + (right < guessed))
            record.rate += _LEARNING * (rate - record.rate)
            self._typical += _GENERALISING * (rate - self._typical)

    def forget(self, request: Request) -> None:
        """A request has ended, or has lost its slot."""
        self._records.pop(request.request_id, None)
        if self._drafter is not None:
            self._drafter.forget(request)

    def close(self) -> None:
        """Free the drafter."""
        if self._drafter is not None:
            self._drafter.close()
            self._drafter = None

    def _room(self, request: Request) -> int:
        """Drafts that a request can have without outgrowing its length."""
        # The model's own next token takes one place.
        return max(request.max_total_tokens - len(request.token_ids) - 1, 0)

    def _limit(self, rooms: Sequence[int]) -> int:
        """Drafts per request that leave a pass its rows, and every request of it its length."""
        if not rooms:
            return 0
        longest = min(rooms) if self._uniform else max(rooms)
        return min(self._most, longest, _MAX_ROWS // len(rooms) - 1)

    def _can_pay(self, num_requests: int, most: int) -> bool:
        """Whether drafts would pay if all of them were right: if not, there is no need to ask for any."""
        return any(
            self._gain(num_requests, count, 1.0 + count) >= _WORTHWHILE
            for count in range(1, most + 1)
        )

    def _best_count(
        self, records: Sequence[_Record], drafts: Sequence[Sequence[int]], most: int
    ) -> int:
        """How many drafts to verify; 0 if none is worth it."""
        best, best_gain = 0, _WORTHWHILE
        expected = [1.0] * len(drafts)
        chances = [record.rate for record in records]
        for count in range(1, min(most, max(map(len, drafts))) + 1):
            for at, (draft, record) in enumerate(zip(drafts, records, strict=True)):
                if count <= len(draft):
                    expected[at] += chances[at]
                    chances[at] *= record.rate
            gain = self._gain(len(drafts), count, sum(expected) / len(expected))
            if gain > best_gain:
                best, best_gain = count, gain
        return best

    def _gain(self, num_requests: int, count: int, expected_tokens: float) -> float:
        """How many times as fast tokens come with drafts as without."""
        if self._cost is None:
            return expected_tokens
        alone = self._cost.decode_seconds(num_requests)
        drafted = self._cost.decode_seconds(num_requests * (1 + count))
        return expected_tokens * alone / drafted

    def _hand_out(self, request: Request, draft: list[int], count: int) -> None:
        self._guesses[request.request_id] = len(draft)
        if self._uniform:
            # Any token will do to fill up: it counts only if the model would say the same.
            draft = draft + request.token_ids[-1:] * (count - len(draft))
        request.draft_token_ids = draft

    def _switch_off(self, error: RunnerError) -> None:
        """Answers must not suffer from a broken draft model."""
        logger.error("speculation is switched off, the draft model failed: %s", error)
        self.close()
