from __future__ import annotations

from typing import Any

import pytest

from inferflux_core.testing import GuardrailContract


class TestMasking(GuardrailContract):
    plugin_name = "pii"
    findings = (
        "john.doe@sub.example.co.uk",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "536-90-4399",
        "2001:db8::ff00:42:8329",
        "+1 (415) 555-2671",
    )
    harmless = (
        "The year 1984 had 366 days.",
        "It costs 3.50, or 4,000 for all: ask @home.",
        "Call f::g at 12:30",
    )


class TestBlocking(TestMasking):
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"action": "mask", "actions": {"card": "block", "email": "block"}}
