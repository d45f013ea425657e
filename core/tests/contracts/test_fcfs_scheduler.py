from __future__ import annotations

from inferflux_core.testing import SchedulerContract


class TestFCFS(SchedulerContract):
    plugin_name = "fcfs"
