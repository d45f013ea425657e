from __future__ import annotations

from inferflux_core.testing import BackendContract


class TestStub(BackendContract):
    plugin_name = "stub"
