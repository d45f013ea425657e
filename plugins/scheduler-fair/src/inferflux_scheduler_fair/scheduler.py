"""Fairness by virtual token counters."""

from __future__ import annotations

from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import ScheduledRequest, SchedulerLimits, SchedulerOutput
from inferflux_core.engine.step_budget import PromptBudget, schedule_generating
from inferflux_core.schedulers.queue import best_of, by_priority
from inferflux_scheduler_fair.config import FairConfig
from inferflux_scheduler_fair.tenant import Tenant

__all__ = ["FairScheduler"]


class FairScheduler:
    """Serves the tenant first that has been served least (Sheng et al. 2024, "VTC").

    Every generating request has a token in every step, so fairness is a matter of who gets a slot, and whose
    prompt is computed first. Tenants within a step's worth of prompts count as level, and the one that asks
    for less goes first: taking turns chunk by chunk would make everybody's first token late.

    A slot is taken away only from a tenant that has more of them than its share, and only for one that has
    fewer: after that, neither could take one from the other. Within a tenant, a better priority takes the
    slot of a worse one.
    """

    def __init__(self, limits: SchedulerLimits, config: FairConfig) -> None:
        self._limits = limits
        self._config = config
        self._margin = limits.max_num_batched_tokens * config.input_token_cost
        self._tenants: dict[str, Tenant] = {}
        # Whose request was admitted last.
        self._latest = Tenant(1.0)
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
        """Queue a request; a tenant that has nothing waiting starts level with those that have."""
        level = self._level()
        tenant = self._tenants.get(request.tenant)
        if tenant is None:
            self._forget(level)
            weight = self._config.weights.get(request.tenant, 1.0)
            tenant = self._tenants[request.tenant] = Tenant(weight)
        if not len(tenant.waiting):
            tenant.served = max(tenant.served, level)
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
        """Plan one step: generating requests, then prompts of whoever was served least."""
        taker, preempted = self._preempt()
        running = [r for tenant in self._tenants.values() for r in tenant.running.values()]
        plan = schedule_generating(running, self._limits)
        budget = PromptBudget(self._limits, plan)
        for scheduled in plan:
            cost = scheduled.num_tokens * self._config.output_token_cost
            self._tenants[scheduled.request.tenant].charge(cost)
        queues = [(tenant, tenant.prompts()) for tenant in self._tenants.values() if tenant.active]
        if taker is not None:
            # Before all others, or the slot would have been taken away for nothing.
            num_tokens = budget.take(taker)
            self._admit(taker)
            plan.append(self._charge_prompt(taker, num_tokens))
        return SchedulerOutput(plan + self._plan_prompts(queues, budget), preempted)

    def _plan_prompts(
        self, queues: list[tuple[Tenant, list[Request]]], budget: PromptBudget
    ) -> list[ScheduledRequest]:
        """Spend the budget on prompts, whether they run or wait for a free slot.

        Args:
            queues: each tenant's prompts that run, the best one last.
            budget: of the step.
        """
        plan: list[ScheduledRequest] = []
        while budget.tokens > 0:
            has_slot = self._num_running < self._limits.max_num_seqs
            hopeful = [q for q in queues if q[1] or (has_slot and len(q[0].waiting))]
            if not hopeful:
                break
            least = min(tenant.served for tenant, _ in hopeful)
            level = (queue for queue in hopeful if queue[0].served <= least + self._margin)
            tenant, prompts = min(level, key=lambda queue: queue[0].turn)
            request = best_of(*prompts[-1:], tenant.waiting.first() if has_slot else None)
            if request is None or not (num_tokens := budget.take(request)):
                break
            if request.request_id in tenant.running:
                prompts.pop()
            else:
                self._admit(request)
            plan.append(self._charge_prompt(request, num_tokens))
        return plan

    def _admit(self, request: Request) -> None:
        tenant = self._latest = self._tenants[request.tenant]
        tenant.waiting.remove(request)
        tenant.running[request.request_id] = request
        self._num_waiting -= 1
        self._num_running += 1

    def _charge_prompt(self, request: Request, num_tokens: int) -> ScheduledRequest:
        """Plan a part of a prompt, and charge it at once: whose turn is next depends on it."""
        self._tenants[request.tenant].charge(num_tokens * self._config.input_token_cost)
        return ScheduledRequest(request, num_tokens)

    def _level(self) -> float:
        """Where tenants start: what the least served one of those that wait has, or the last that waited.

        This is VTC's rule: neither an idle time nor a small demand is a credit for later.
        """
        waiting = [tenant.served for tenant in self._tenants.values() if len(tenant.waiting)]
        return min(waiting, default=self._latest.served)

    def _forget(self, level: float) -> None:
        """Forget tenants that are idle and would start at the level anyway."""
        self._tenants = {n: t for n, t in self._tenants.items() if t.active or t.served > level}

    def _preempt(self) -> tuple[Request | None, list[Request]]:
        """If the house is full, find a slot for a request of a tenant that is level with the next one.

        Returns:
            The request that takes a slot, and the one that gives it up.
        """
        if not self._num_waiting or self._num_running < self._limits.max_num_seqs:
            return None, []
        active = [tenant for tenant in self._tenants.values() if tenant.active]
        slots = self._limits.max_num_seqs / sum(tenant.weight for tenant in active)
        most = self._level() + self._margin
        claimants = [t for t in active if len(t.waiting) and t.served <= most]
        rich = [t for t in active if len(t.running) - 1 >= t.share(slots)]
        for claimant in sorted(claimants, key=lambda tenant: tenant.turn):
            first = claimant.waiting.first()
            if rich and len(claimant.running) + 1 <= claimant.share(slots):
                victim = max(rich, key=lambda tenant: tenant.served)
                return first, [self._evict(victim)]
            worst = max(claimant.running.values(), key=by_priority, default=None)
            if first and worst and first.priority < worst.priority:
                return first, [self._evict(claimant)]
        return None, []

    def _evict(self, tenant: Tenant) -> Request:
        request = max(tenant.running.values(), key=by_priority)
        del tenant.running[request.request_id]
        tenant.waiting.push(request)
        self._num_running -= 1
        self._num_waiting += 1
        return request
