from __future__ import annotations

from typing import Any

import pytest

from inferflux_core.testing import GuardrailContract


class TestBlocklist(GuardrailContract):
    plugin_name = "blocklist"
    findings = ("ushers", "SHE", "aabaabaac", "a bad \n idea.", "STRASSE 7", "s\u200bh\u0301e")
    harmless = ("Nothing of the kind.", "sh", "aabaab", "a bad, bad", "an idea", "😀 he\u0301llo")

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"words": ["she", "hers", "aabaac", "bad idea", "straße"]}
