from __future__ import annotations

from inferflux_core.testing import SchedulerContract


class TestFair(SchedulerContract):
    plugin_name = "fair"
