"""Guessing with a smaller model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import DraftVerifier, ModelRunner, Tokenizer, Work
from inferflux_core.engine.slots import SlotPool

__all__ = ["DraftModelDrafter", "vocabulary_difference"]


@dataclass(slots=True)
class _Follower:
    """A slot of the draft model, the tokens it holds, and how many of them are known to be the request's."""

    slot: int
    held: list[int] = field(default_factory=list)
    same: int = 0

    def agree(self, token_ids: Sequence[int]) -> int:
        """How many of the tokens it holds are a request's, not counting the request's last one."""
        # From the front: behind a wrong guess, later tokens may agree again and are worthless.
        limit = min(len(self.held), len(token_ids) - 1)
        while self.same < limit and self.held[self.same] == token_ids[self.same]:
            self.same += 1
        return self.same


class DraftModelDrafter:
    """Lets a smaller model of the same vocabulary write on, greedily.

    Its sequences follow the requests': what was accepted stays, the rest is forgotten. A request gets a
    slot when one is free.

    Args:
        runner: executes the draft model; a `DraftVerifier`, or the model could not be corrected. Owned.
        max_prefill_tokens: longer prompts are not drafted for; None is no limit.
    """

    def __init__(self, runner: ModelRunner, max_prefill_tokens: int | None = None) -> None:
        assert isinstance(runner, DraftVerifier)
        self._runner: ModelRunner = runner
        self._verifier: DraftVerifier = runner
        self._limit = max_prefill_tokens
        self._slots = SlotPool(runner.capabilities.max_num_seqs)
        self._followers: dict[int, _Follower] = {}

    @property
    def name(self) -> str:
        """What it is known by."""
        return "the draft model"

    def accepts(self, request: Request, num_tokens: int) -> bool:
        """Whether there is room, and catching up takes no longer than the answer has been worth so far.

        How long an answer will go on is not known, so it is taken to do so for as long as it has ("ski
        rental", Karlin et al. 1988): a long prompt is computed only for an answer that is long as well.
        """
        capabilities = self._runner.capabilities
        if self._limit is not None and request.num_prompt_tokens > self._limit:
            return False
        if len(request.token_ids) + num_tokens > capabilities.max_model_len:
            return False
        known = request.request_id in self._followers
        if not known and len(self._followers) == capabilities.max_num_seqs:
            return False
        cost = capabilities.cost
        return cost is None or (
            self._seconds_behind(cost, request) <= _num_written(request) * cost.decode_seconds(1)
        )

    def seconds(self, requests: Sequence[Request], num_tokens: int) -> float:
        """A pass for every token, and each request's share of what it takes to catch up."""
        cost = self._runner.capabilities.cost
        if cost is None:
            return 0.0
        shares = (
            self._seconds_behind(cost, request)
            * min(1.0, (1 + num_tokens) / max(_num_written(request), 1))
            for request in requests
        )
        return num_tokens * cost.decode_seconds(len(requests)) + sum(shares)

    def propose(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
        """Write `num_tokens` tokens for every request that has a slot.

        Raises:
            RunnerError: the draft model cannot go on.
        """
        followers = {
            index: follower
            for index, request in enumerate(requests)
            if (follower := self._follower(request)) is not None
        }
        drafts: list[list[int]] = [[] for _ in requests]
        pending = {
            index: self._catch_up(follower, requests[index].token_ids)
            for index, follower in followers.items()
        }
        for _ in range(num_tokens):
            if not pending:
                break
            chosen = self._advance(followers, pending)
            for index, token_id in chosen.items():
                drafts[index].append(token_id)
            pending = {index: [token_id] for index, token_id in chosen.items()}
        return drafts

    def forget(self, request: Request) -> None:
        """Free a request's slot."""
        follower = self._followers.pop(request.request_id, None)
        if follower is not None:
            self._runner.release(follower.slot)
            self._slots.free(follower.slot)

    def close(self) -> None:
        """Free the draft model."""
        self._runner.close()

    def _follower(self, request: Request) -> _Follower | None:
        follower = self._followers.get(request.request_id)
        if follower is None and len(self._followers) < self._runner.capabilities.max_num_seqs:
            follower = self._followers[request.request_id] = _Follower(self._slots.allocate())
        return follower

    def _seconds_behind(self, cost: CostModel, request: Request) -> float:
        """What it takes to compute all of a request but its last token, which every first pass has."""
        follower = self._followers.get(request.request_id)
        held = 0 if follower is None else follower.agree(request.token_ids)
        return cost.prefill_seconds(len(request.token_ids) - 1 - held)

    def _catch_up(self, follower: _Follower, token_ids: list[int]) -> list[int]:
        """Forget what turned out otherwise; returns the tokens to compute, at least the last one."""
        held, same = follower.held, follower.agree(token_ids)
        if same < len(held):
            if same:
                self._verifier.truncate(follower.slot, same)
            else:
                self._runner.release(follower.slot)
            del held[same:]
        return token_ids[same:]

    def _advance(
        self, followers: dict[int, _Follower], pending: dict[int, list[int]]
    ) -> dict[int, int]:
        """Compute pending tokens; returns the likeliest next one of each, where there is one."""
        order = list(pending)
        batch = [
            Work(followers[index].slot, len(followers[index].held), pending[index])
            for index in order
        ]
        chosen: dict[int, int] = {}
        for output in self._runner.execute(batch):
            best = output.logits.argmax(axis=1) if len(output.indices) else ()
            for at, token_id in zip(output.indices, best, strict=True):
                chosen[order[at]] = int(token_id)
        for index in order:
            if index in chosen:
                followers[index].held += pending[index]
            else:
                # It could not be computed: begin anew next time.
                self._runner.release(followers[index].slot)
                followers[index].held.clear()
                followers[index].same = 0
        return chosen


def _num_written(request: Request) -> int:
    return len(request.token_ids) - request.num_prompt_tokens


def vocabulary_difference(target: Tokenizer, draft: Tokenizer) -> str | None:
    """The first difference in what two models mean by the same token ids, for people; None without one."""
    if target.vocab_size != draft.vocab_size:
        return f"it has {draft.vocab_size} tokens and the model has {target.vocab_size}"
    for token_id in range(target.vocab_size):
        theirs, ours = draft.piece(token_id), target.piece(token_id)
        if theirs != ours:
            return f"token {token_id} is {theirs!r} to the draft model and {ours!r} to the model"
    return None
