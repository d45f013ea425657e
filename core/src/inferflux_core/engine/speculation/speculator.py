"""When to draft, and how far."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import RunnerCapabilities, RunnerError
from inferflux_core.engine.speculation.acceptance import Acceptance
from inferflux_core.engine.speculation.drafter import Drafter

__all__ = ["Speculator"]

logger = logging.getLogger("inferflux.speculation")

_WORTHWHILE: Final = 1.05
_MAX_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class _Source:
    """A drafter and what it has shown."""

    drafter: Drafter
    acceptance: Acceptance = field(default_factory=Acceptance)


@dataclass(slots=True)
class _Draft:
    """What a request may get in the step at hand: `room` tokens at most; a `source` if there are any."""

    request: Request
    room: int
    token_ids: Sequence[int] = ()
    source: _Source | None = None


@dataclass(frozen=True, slots=True)
class _Prospect:
    """A draft of so many tokens, each of them right with a certain chance if those before it were."""

    length: int
    rate: float


class Speculator:
    """Gives requests drafts where that is expected to pay.

    With `n` requests and `k` drafts each, a step takes as long as `n * (1 + k)` rows of decoding, and as
    long as it takes to guess; it brings every request one token and as many drafts as prove right one
    after the other. The `k` that brings the most tokens per second is taken, if it brings notably more
    than none. A drafter is asked only if its guesses, as good as they were before, would pay for
    themselves.

    Args:
        drafters: in order of preference; each is asked about the requests that those before it had no
            guess for. One that fails is left out from then on. Owned.
        capabilities: of the runner that verifies.
        max_draft_tokens: most drafts per request and step.
    """

    def __init__(
        self, drafters: Sequence[Drafter], capabilities: RunnerCapabilities, max_draft_tokens: int
    ) -> None:
        self._sources = [_Source(drafter) for drafter in drafters]
        self._cost = capabilities.cost
        self._uniform = capabilities.uniform_rows
        self._most = min(max_draft_tokens, capabilities.max_draft_tokens)
        # Of the step at hand, by request: whose guesses, and how many drafts are not there to fill up.
        self._guesses: dict[int, tuple[_Source, int]] = {}
        self.num_drafted = 0
        self.num_accepted = 0
        self.num_failed = 0

    def draft(self, generating: Iterable[Request]) -> None:
        """Give requests drafts for the coming step, or none.

        Args:
            generating: all requests that will compute a token in this step.
        """
        self._guesses.clear()
        # One whose next tokens are known needs no guesses.
        drafts = [_Draft(r, self._room(r)) for r in generating if r.num_pending_tokens == 1]
        most = self._limit(drafts)
        if most < 1:
            return
        for source in tuple(self._sources):
            self._ask(source, drafts, most)
        count, _ = self._best(len(drafts), _prospects(drafts), most)
        for draft in drafts:
            if count:
                self._hand_out(draft, count)
            elif draft.source is not None:
                draft.source.acceptance.relax(draft.request)

    def observe(self, request: Request, proposed: int, accepted: int) -> None:
        """Learn how many of a request's drafts the model agreed with; it may have ended with them."""
        if request.request_id not in self._guesses:
            return
        source, guessed = self._guesses[request.request_id]
        guessed = min(proposed, guessed)
        right = min(accepted, guessed)
        self.num_drafted += guessed
        self.num_accepted += right
        if guessed:
            source.acceptance.observe(request, guessed, right)

    def forget(self, request: Request) -> None:
        """A request has ended, or has lost its slot."""
        for source in self._sources:
            source.acceptance.forget(request)
            source.drafter.forget(request)

    def close(self) -> None:
        """Free the drafters."""
        for source in self._sources:
            source.drafter.close()
        self._sources.clear()

    def _room(self, request: Request) -> int:
        """Drafts that a request can have without outgrowing its length."""
        # The model's own next token takes one place.
        return max(request.max_total_tokens - len(request.token_ids) - 1, 0)

    def _limit(self, drafts: Sequence[_Draft]) -> int:
        """Drafts per request that leave a pass its rows, and every request of it its length."""
        if not drafts:
            return 0
        rooms = [draft.room for draft in drafts]
        longest = min(rooms) if self._uniform else max(rooms)
        return min(self._most, longest, _MAX_ROWS // len(rooms) - 1)

    def _ask(self, source: _Source, drafts: Sequence[_Draft], most: int) -> None:
        """Let a drafter guess where nobody has yet, if that can be expected to pay."""
        open_ = [d for d in drafts if d.source is None and source.drafter.accepts(d.request, most)]
        if not open_:
            return
        requests = [draft.request for draft in open_]
        rates = [source.acceptance.rate(request) for request in requests]
        present = _prospects(drafts)
        hoped = [_Prospect(draft.room, rate) for draft, rate in zip(open_, rates, strict=True)]
        _, gain_without = self._best(len(drafts), present, most)
        count, gain = self._best(
            len(drafts), present + hoped, most, lambda k: source.drafter.seconds(requests, k)
        )
        if gain <= gain_without:
            for request in requests:
                source.acceptance.relax(request)
            return
        try:
            found = source.drafter.propose(requests, count)
        except RunnerError as error:
            self._leave_out(source, error)
            return
        for draft, token_ids in zip(open_, found, strict=True):
            if token_ids and draft.room:
                draft.token_ids, draft.source = token_ids[: draft.room], source

    def _best(
        self,
        num_requests: int,
        prospects: Sequence[_Prospect],
        most: int,
        seconds: Callable[[int], float] = lambda count: 0.0,
    ) -> tuple[int, float]:
        """How many drafts to verify, 0 if none is worth it, and how much faster tokens come then.

        Args:
            num_requests: requests of the step.
            prospects: of those among them that have drafts.
            most: drafts to consider.
            seconds: what it takes to guess so many for each.
        """
        best, best_gain = 0, _WORTHWHILE
        expected = float(num_requests)
        for count in range(1, most + 1):
            more = sum(p.rate**count for p in prospects if count <= p.length)
            if not more:
                break
            expected += more
            gain = expected / num_requests
            if self._cost is not None:
                alone = self._cost.decode_seconds(num_requests)
                drafted = self._cost.decode_seconds(num_requests * (1 + count))
                gain *= alone / (drafted + seconds(count))
            if gain > best_gain:
                best, best_gain = count, gain
        return best, best_gain

    def _hand_out(self, draft: _Draft, count: int) -> None:
        request, token_ids = draft.request, list(draft.token_ids[:count])
        if draft.source is not None:
            self._guesses[request.request_id] = draft.source, len(token_ids)
        if self._uniform:
            # Any token will do to fill up: it counts only if the model would say the same.
            token_ids += request.token_ids[-1:] * (count - len(token_ids))
        request.draft_token_ids = token_ids

    def _leave_out(self, source: _Source, error: RunnerError) -> None:
        """Answers must not suffer from a broken draft model."""
        logger.error("%s failed and is not asked any more: %s", source.drafter.name, error)
        self.num_failed += 1
        self._sources.remove(source)
        source.drafter.close()


def _prospects(drafts: Iterable[_Draft]) -> list[_Prospect]:
    return [
        _Prospect(len(draft.token_ids), draft.source.acceptance.rate(draft.request))
        for draft in drafts
        if draft.source is not None
    ]
