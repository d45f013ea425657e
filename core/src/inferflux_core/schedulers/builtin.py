"""Registers the schedulers that ship with the core."""

from __future__ import annotations

from collections.abc import Iterable

from inferflux_core.hookspecs import hookimpl
from inferflux_core.schedulers.fcfs import FCFSScheduler
from inferflux_core.specs import SchedulerSpec


@hookimpl
def inferflux_schedulers() -> Iterable[SchedulerSpec]:
    """Declare `fcfs`."""
    yield SchedulerSpec(
        name="fcfs",
        summary="First come, first served, with chunked prefill and priorities",
        factory=lambda limits, options: FCFSScheduler(limits),
    )
