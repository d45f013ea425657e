"""A scheduler that watches another one."""

from __future__ import annotations

from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import (
    ScheduledRequest,
    Scheduler,
    SchedulerLimits,
    SchedulerOutput,
)

__all__ = ["CheckedScheduler"]


class CheckedScheduler:
    """Passes everything on to a scheduler, and asserts that its plans and counts keep the contract."""

    def __init__(self, scheduler: Scheduler, limits: SchedulerLimits) -> None:
        self._scheduler = scheduler
        self._limits = limits
        self._waiting: set[Request] = set()
        self._running: set[Request] = set()

    @property
    def num_waiting(self) -> int:
        """As the scheduler says."""
        return self._scheduler.num_waiting

    @property
    def num_running(self) -> int:
        """As the scheduler says."""
        return self._scheduler.num_running

    def add_request(self, request: Request) -> None:
        """Add, and check the counts."""
        self._scheduler.add_request(request)
        self._waiting.add(request)
        self._check_counts()

    def finish_request(self, request: Request) -> None:
        """Finish, and check the counts."""
        self._scheduler.finish_request(request)
        self._waiting.discard(request)
        self._running.discard(request)
        self._check_counts()

    def schedule(self) -> SchedulerOutput:
        """Plan, and check the plan."""
        output = self._scheduler.schedule()
        plan = output.scheduled
        self._check_preempted(output)
        planned = {scheduled.request for scheduled in plan}
        assert len(planned) == len(plan), "a request is in the plan twice"
        assert planned <= self._waiting | self._running, "the plan names a request that has ended"
        assert plan or not (self._waiting or self._running), "an empty plan, and work to do"
        self._running |= planned
        self._waiting -= planned
        assert len(self._running) <= self._limits.max_num_seqs, "more than max_num_seqs run"
        left_out = {r for r in self._running - planned if r.is_generating}
        assert not left_out, "a generating request is not in the plan"
        for scheduled in plan:
            self._check_chunk(scheduled)
        self._check_budget(plan)
        self._check_counts()
        return output

    def _check_preempted(self, output: SchedulerOutput) -> None:
        preempted = set(output.preempted)
        assert len(preempted) == len(output.preempted), "a request is preempted twice"
        assert preempted <= self._running, "a preempted request did not run"
        planned = {scheduled.request for scheduled in output.scheduled}
        assert not preempted & planned, "a request is preempted by the plan that it is in"
        self._running -= preempted
        self._waiting |= preempted

    def _check_budget(self, plan: list[ScheduledRequest]) -> None:
        limits = self._limits
        total = sum(scheduled.num_tokens for scheduled in plan)
        assert total <= limits.max_num_batched_tokens, f"{total} tokens are over the budget"
        rows = sum(scheduled.num_tokens for scheduled in plan if scheduled.request.is_generating)
        if rows and limits.cost is not None and limits.max_inter_token_seconds is not None:
            left = limits.max_inter_token_seconds - limits.cost.decode_seconds(rows)
            most = limits.cost.prefill_tokens_within(max(left, 0.0), limits.prefill_quantum)
            assert total - rows <= most, (
                f"{total - rows} tokens of prompts keep those waiting that generate; {most} would not"
            )

    def _check_chunk(self, scheduled: ScheduledRequest) -> None:
        request, num_tokens = scheduled.request, scheduled.num_tokens
        pending = request.num_pending_tokens
        assert 1 <= num_tokens <= pending, f"{num_tokens} tokens of {pending} that are pending"
        if request.is_generating:
            return
        cut = request.num_computed_tokens + num_tokens
        assert num_tokens == pending or cut % self._limits.prefill_quantum == 0, (
            f"a prompt is cut at {cut}, off the quantum"
        )

    def _check_counts(self) -> None:
        counts = (self._scheduler.num_waiting, self._scheduler.num_running)
        expected = (len(self._waiting), len(self._running))
        assert counts == expected, f"(num_waiting, num_running) is {counts}, should be {expected}"
