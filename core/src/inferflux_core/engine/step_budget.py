"""How many tokens of prompts a step may compute beside the answers that flow."""

from __future__ import annotations

from collections.abc import Iterable

from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import ScheduledRequest, SchedulerLimits

__all__ = ["PromptBudget", "schedule_generating"]


def schedule_generating(
    requests: Iterable[Request], limits: SchedulerLimits
) -> list[ScheduledRequest]:
    """Every generating request's next token, and as many of its further known or drafted ones as fit.

    A quantum of the step's tokens is left to prompts.
    """
    generating = [request for request in requests if request.is_generating]
    spare = limits.max_num_batched_tokens - limits.prefill_quantum - len(generating)
    plan = []
    for request in generating:
        extra = max(min(request.num_pending_tokens - 1, spare), 0)
        spare -= extra
        plan.append(ScheduledRequest(request, 1 + extra))
    return plan


class PromptBudget:
    """What is left of a step for prompts, once the answers that flow have their tokens.

    While somebody waits for their next token, the step is kept within `max_inter_token_seconds` as far as
    the cost model can tell. One quantum is always there: prompts must progress.

    Args:
        limits: of the scheduler.
        generating: what the step computes already.
    """

    def __init__(self, limits: SchedulerLimits, generating: list[ScheduledRequest]) -> None:
        rows = sum(scheduled.num_tokens for scheduled in generating)
        self._quantum = limits.prefill_quantum
        self.tokens = limits.max_num_batched_tokens - rows
        if generating and limits.cost is not None and limits.max_inter_token_seconds is not None:
            left = limits.max_inter_token_seconds - limits.cost.decode_seconds(rows)
            within = limits.cost.prefill_tokens_within(max(left, 0.0), self._quantum)
            self.tokens = min(self.tokens, within)

    def take(self, request: Request) -> int:
        """Tokens of a prompt that fit: all that are pending, or up to a multiple of the quantum; maybe 0."""
        pending, start = request.num_pending_tokens, request.num_computed_tokens
        if pending <= self.tokens:
            count = pending
        else:
            end = start + self.tokens
            count = max(end - end % self._quantum - start, 0)
        self.tokens -= count
        return count
