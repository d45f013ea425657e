"""Registers the `fair` scheduler."""

from __future__ import annotations

from collections.abc import Iterable

from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import SchedulerSpec
from inferflux_scheduler_fair.config import FairConfig
from inferflux_scheduler_fair.scheduler import FairScheduler

__all__ = ["inferflux_schedulers"]


@hookimpl
def inferflux_schedulers() -> Iterable[SchedulerSpec]:
    """Declare `fair`."""
    yield SchedulerSpec(
        name="fair",
        summary="Shares the engine between tenants by the tokens they are served",
        config_type=FairConfig,
        factory=FairScheduler,
    )
