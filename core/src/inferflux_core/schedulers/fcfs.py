"""First come, first served, with priorities and chunked prefill."""

from __future__ import annotations

from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import ScheduledRequest, SchedulerLimits, SchedulerOutput
from inferflux_core.engine.step_budget import PromptBudget, schedule_generating
from inferflux_core.schedulers.queue import RequestQueue, best_of, by_priority

__all__ = ["FCFSScheduler"]


class FCFSScheduler:
    """Serves requests by priority, and those of one priority in order of arrival.

    Every step first takes the next token of each request that is generating, so that answers flow evenly,
    and spends what is left on prompts, whole ones one after the other: sharing the step among prompts
    would make everybody's first token as late as the last one's. The shortest first would be sooner still
    on average, but prompts of one length gain nothing by it, and a long one could wait forever.

    A request that waits preempts the worst one that runs if that has a worse priority. Equals never do, and
    whoever takes a slot so starts in the same step.
    """

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._waiting = RequestQueue()
        # In order of admission.
        self._running: dict[int, Request] = {}

    @property
    def num_waiting(self) -> int:
        """Requests that do not run yet."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
        return len(self._running)

    def add_request(self, request: Request) -> None:
        """Queue a request."""
        self._waiting.push(request)

    def finish_request(self, request: Request) -> None:
        """Forget a request."""
        self._waiting.remove(request)
        self._running.pop(request.request_id, None)

    def schedule(self) -> SchedulerOutput:
        """Plan one step: generating requests, then prompts, whether they run or wait for a free slot."""
        preempted = self._preempt()
        plan = schedule_generating(self._running.values(), self._limits)
        budget = PromptBudget(self._limits, plan)
        prompts: list[Request] = []
        if len(plan) < len(self._running):
            prompts = [r for r in self._running.values() if not r.is_generating]
            prompts.sort(key=by_priority, reverse=True)
        while budget.tokens > 0:
            has_slot = len(self._running) < self._limits.max_num_seqs
            request = best_of(*prompts[-1:], self._waiting.first() if has_slot else None)
            if request is None or not (num_tokens := budget.take(request)):
                break
            if request.request_id in self._running:
                prompts.pop()
            else:
                self._waiting.remove(request)
                self._running[request.request_id] = request
            plan.append(ScheduledRequest(request, num_tokens))
        return SchedulerOutput(plan, preempted)

    def _preempt(self) -> list[Request]:
        """Make room for one request of a better priority, if the house is full and its prompt is next."""
        first = self._waiting.first()
        if first is None or len(self._running) < self._limits.max_num_seqs:
            return []
        worst = max(self._running.values(), key=by_priority)
        if worst.priority <= first.priority:
            return []
        turn = by_priority(first)
        if any(by_priority(r) < turn for r in self._running.values() if not r.is_generating):
            return []
        del self._running[worst.request_id]
        self._waiting.push(worst)
        return [worst]
