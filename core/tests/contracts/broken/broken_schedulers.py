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


SCHEDULERS = (Crowded, Dishonest, Haunted, Lazy, Ragged, Spendthrift)


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
