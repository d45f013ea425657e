"""Fairness by virtual token counters."""

from __future__ import annotations

from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import ScheduledRequest, SchedulerLimits, SchedulerOutput
from inferflux_core.engine.step_budget import PromptBudget, schedule_generating
from inferflux_core.schedulers.queue import by_priority
from inferflux_scheduler_fair.config import FairConfig
from inferflux_scheduler_fair.tenant import Tenant

__all__ = ["FairScheduler"]


class FairScheduler:
    """Serves the tenant first that has been served least (Sheng et al. 2024, "VTC").

    Every generating request has a token in every step, so fairness is a matter of who gets a slot, and whose
    prompt is computed first. A slot is taken away only from a tenant that has more of them than its share,
    and only for one that has fewer: after that, neither could take one from the other.
    """

    def __init__(self, limits: SchedulerLimits, config: FairConfig) -> None:
        self._limits = limits
        self._config = config
        self._tenants: dict[str, Tenant] = {}
        self._num_waiting = 0
        self._num_running = 0

    @property
    def num_waiting(self) -> int:
        """Requests that do not run yet."""
        return self._num_waiting

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
        return self._num_running

    def add_request(self, request: Request) -> None:
        """Queue a request; a tenant that comes back starts level with those that are here."""
        tenant = self._tenants.get(request.tenant)
        if tenant is None:
            weight = self._config.weights.get(request.tenant, 1.0)
            tenant = self._tenants[request.tenant] = Tenant(weight)
        if not tenant.active:
            present = [t.served for t in self._tenants.values() if t.active]
            tenant.served = max(tenant.served, min(present, default=0.0))
        tenant.waiting.push(request)
        self._num_waiting += 1

    def finish_request(self, request: Request) -> None:
        """Forget a request."""
        tenant = self._tenants[request.tenant]
        if tenant.running.pop(request.request_id, None) is not None:
            self._num_running -= 1
        else:
            tenant.waiting.remove(request)
            self._num_waiting -= 1

    def schedule(self) -> SchedulerOutput:
        """Plan one step: generating requests, then prompts and newcomers of whoever was served least."""
        preempted = self._preempt()
        running = [r for tenant in self._tenants.values() for r in tenant.running.values()]
        plan = schedule_generating(running, self._limits)
        budget = PromptBudget(self._limits, plan)
        for scheduled in plan:
            cost = scheduled.num_tokens * self._config.output_token_cost
            self._tenants[scheduled.request.tenant].charge(cost)
        prompts = [request for request in running if not request.is_generating]
        plan += self._continue_prompts(prompts, budget)
        plan += self._admit(budget)
        return SchedulerOutput(plan, preempted)

    def _continue_prompts(
        self, prompts: list[Request], budget: PromptBudget
    ) -> list[ScheduledRequest]:
        def order(request: Request) -> tuple[float, tuple[int, float, int]]:
            return self._tenants[request.tenant].served, by_priority(request)

        plan = []
        while prompts:
            request = min(prompts, key=order)
            prompts.remove(request)
            if num_tokens := budget.take(request):
                plan.append(self._compute(request, num_tokens))
        return plan

    def _admit(self, budget: PromptBudget) -> list[ScheduledRequest]:
        plan = []
        while self._num_running < self._limits.max_num_seqs:
            tenant = self._neediest()
            request = tenant.waiting.first() if tenant else None
            if tenant is None or request is None or not (num_tokens := budget.take(request)):
                break
            tenant.waiting.remove(request)
            tenant.running[request.request_id] = request
            self._num_waiting -= 1
            self._num_running += 1
            plan.append(self._compute(request, num_tokens))
        return plan

    def _compute(self, request: Request, num_tokens: int) -> ScheduledRequest:
        """Plan a part of a prompt, and charge it at once: whose turn is next depends on it."""
        self._tenants[request.tenant].charge(num_tokens * self._config.input_token_cost)
        return ScheduledRequest(request, num_tokens)

    def _neediest(self) -> Tenant | None:
        """Of those with a request waiting, the tenant that has been served least."""
        waiting = [tenant for tenant in self._tenants.values() if len(tenant.waiting)]
        return min(waiting, key=lambda tenant: tenant.served, default=None)

    def _preempt(self) -> list[Request]:
        """Take slots from tenants above their share for those below it, one each per step."""
        if not self._num_waiting or self._num_running < self._limits.max_num_seqs:
            return []
        active = [tenant for tenant in self._tenants.values() if tenant.active]
        slots = self._limits.max_num_seqs / sum(tenant.weight for tenant in active)
        shares = {id(tenant): max(1.0, slots * tenant.weight) for tenant in active}
        preempted = []
        for claimant in sorted(active, key=lambda tenant: tenant.served):
            if not len(claimant.waiting) or len(claimant.running) + 1 > shares[id(claimant)]:
                continue
            above = [t for t in active if len(t.running) - 1 >= shares[id(t)]]
            if not above:
                break
            victim = max(above, key=lambda tenant: tenant.served)
            preempted.append(self._evict(victim))
        return preempted

    def _evict(self, tenant: Tenant) -> Request:
        request = max(tenant.running.values(), key=by_priority)
        del tenant.running[request.request_id]
        tenant.waiting.push(request)
        self._num_running -= 1
        self._num_waiting += 1
        return request
