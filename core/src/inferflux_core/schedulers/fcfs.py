"""First come, first served, with chunked prefill."""

from __future__ import annotations

from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import ScheduledRequest, SchedulerLimits, SchedulerOutput

__all__ = ["FCFSScheduler"]


class FCFSScheduler:
    """Serves requests in order of arrival.

    Every step first takes one token of each request that is generating, so that answers flow evenly,
    and spends the rest of the token budget on prompts, oldest first. The budget bounds how long a
    newcomer's prompt can hold up everybody else's next token.
    """

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        # Insertion order is order of arrival; a dict removes from the middle in O(1).
        self._waiting: dict[int, Request] = {}
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
        """Queue a request behind all others."""
        self._waiting[request.request_id] = request

    def finish_request(self, request: Request) -> None:
        """Forget a request."""
        self._waiting.pop(request.request_id, None)
        self._running.pop(request.request_id, None)

    def schedule(self) -> SchedulerOutput:
        """Plan one step: generating requests, then prompts in order of arrival."""
        plan: list[ScheduledRequest] = []
        prompts: list[Request] = []
        for request in self._running.values():
            if request.is_generating:
                plan.append(ScheduledRequest(request, request.num_pending_tokens))
            else:
                prompts.append(request)
        budget = self._limits.max_num_batched_tokens - sum(s.num_tokens for s in plan)
        for request in prompts:
            if not (num_tokens := self._chunk(request, budget)):
                return SchedulerOutput(plan)
            plan.append(ScheduledRequest(request, num_tokens))
            budget -= num_tokens
        while self._waiting and len(self._running) < self._limits.max_num_seqs:
            request = next(iter(self._waiting.values()))
            if not (num_tokens := self._chunk(request, budget)):
                break
            self._running[request.request_id] = self._waiting.pop(request.request_id)
            plan.append(ScheduledRequest(request, num_tokens))
            budget -= num_tokens
        return SchedulerOutput(plan)

    def _chunk(self, request: Request, budget: int) -> int:
        """Tokens of a prompt that fit: all of it, or a multiple of the quantum."""
        pending = request.num_pending_tokens
        if pending <= budget:
            return pending
        return budget - budget % self._limits.prefill_quantum
