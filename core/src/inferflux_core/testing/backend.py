# ruff: noqa: D102 - a test's name says what it shows
"""What every backend must do."""

from __future__ import annotations

import pytest

from inferflux_core.testing.probing import ObservedProbe, observe_probe
from inferflux_core.testing.runner_tests import RunnerTests
from inferflux_core.testing.tokenizer_tests import TokenizerTests

__all__ = ["BackendContract"]

PROBE_SECONDS = 2.0


class BackendContract(TokenizerTests, RunnerTests):
    """The tests of a backend.

    Where the probe says that no model can run, the tests that need one are skipped with its reason.

    Example:
        class TestEcho(BackendContract):
            plugin_name = "echo"
    """

    @pytest.fixture(scope="class")
    @classmethod
    def observed(cls) -> ObservedProbe:
        """One probe, in a process of its own."""
        return observe_probe(cls.plugin_name)

    def test_the_probe_gives_a_reason(self, observed: ObservedProbe) -> None:
        assert observed.answer.reason.strip()
        assert "\n" not in observed.answer.reason

    def test_the_probe_is_quick(self, observed: ObservedProbe) -> None:
        assert observed.seconds < PROBE_SECONDS

    def test_the_probe_leaves_nothing_behind(self, observed: ObservedProbe) -> None:
        assert observed.traces == []
