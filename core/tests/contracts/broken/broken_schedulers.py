"""Schedulers with one defect each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from inferflux_core.engine.request import Request
from inferflux_core.engine.scheduler import SchedulerLimits, SchedulerOutput
from inferflux_core.hookspecs import hookimpl
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.specs import SchedulerSpec


class Crowded(FCFSScheduler):
    def __init__(self, limits: SchedulerLimits) -> None:
        super().__init__(replace(limits, max_num_seqs=limits.max_num_seqs + 1))


class Spendthrift(FCFSScheduler):
    def __init__(self, limits: SchedulerLimits) -> None:
        budget = 2 * limits.max_num_batched_tokens
        super().__init__(replace(limits, max_num_batched_tokens=budget))


class Ragged(FCFSScheduler):
    def __init__(self, limits: SchedulerLimits) -> None:
        super().__init__(replace(limits, prefill_quantum=1))


class Lazy(FCFSScheduler):
    """Takes every third step off."""

    steps = 0

    def schedule(self) -> SchedulerOutput:
        self.steps += 1
        return super().schedule() if self.steps % 3 else SchedulerOutput([])


class Dishonest(FCFSScheduler):
    @property
    def num_waiting(self) -> int:
        return 0


class Haunted(FCFSScheduler):
    """Goes on with requests that were aborted while they waited."""

    def finish_request(self, request: Request) -> None:
        self._running.pop(request.request_id, None)


class Fickle(FCFSScheduler):
    """Takes slots away, and goes on as if nothing had happened."""

    def schedule(self) -> SchedulerOutput:
        plan = super().schedule().scheduled
        return SchedulerOutput(plan, [s.request for s in plan if s.request.slot is not None])


class Choosy(FCFSScheduler):
    """Serves one request per step."""

    def schedule(self) -> SchedulerOutput:
        return SchedulerOutput(super().schedule().scheduled[-1:])


class Deaf(FCFSScheduler):
    """Lets those who generate wait for prompts."""

    def __init__(self, limits: SchedulerLimits) -> None:
        super().__init__(replace(limits, max_inter_token_seconds=None))


SCHEDULERS = (
    Choosy,
    Crowded,
    Deaf,
    Dishonest,
    Fickle,
    Haunted,
    Lazy,
    Ragged,
    Spendthrift,
)


@hookimpl
def inferflux_schedulers() -> Iterable[SchedulerSpec]:
    for scheduler in SCHEDULERS:
        yield SchedulerSpec(
            name=scheduler.__name__.lower(), summary="Broken", factory=partial(_make, scheduler)
        )


def _make(
    scheduler: type[FCFSScheduler], limits: SchedulerLimits, options: object
) -> FCFSScheduler:
    return scheduler(limits)
