"""Run by `test_kit.py`, not by hand: every class here must fail."""

from __future__ import annotations

from importlib.metadata import distribution

import pytest

from inferflux_core.plugins import AUTH, BACKEND, GUARDRAIL, SCHEDULER
from inferflux_core.testing import (
    AuthContract,
    BackendContract,
    GuardrailContract,
    SchedulerContract,
)


class WithSecret(GuardrailContract):
    findings = ("secret", "a secret, no less")
    harmless = ("nothing", "a sec", "secr et")


class WithCredential(AuthContract):
    @pytest.fixture
    def credential(self) -> str:
        return "ada:0123456789"


CONTRACTS = {
    BACKEND.group: BackendContract,
    SCHEDULER.group: SchedulerContract,
    GUARDRAIL.group: WithSecret,
    AUTH.group: WithCredential,
}
for entry in distribution("acme-broken").entry_points:
    contract = CONTRACTS[entry.group]
    globals()[f"Test{entry.name}"] = type(
        f"Test{entry.name}", (contract,), {"plugin_name": entry.name}
    )


class Testmissing(SchedulerContract):
    plugin_name = "not-installed"


class Testreplacing(SchedulerContract):
    plugin_name = "fcfs"
    test_aborting_one_that_waits = None  # type: ignore[assignment]

    def test_more_requests_than_slots_all_end(self) -> None:
        pass

    @pytest.mark.xfail(reason="")
    def test_a_prompt_longer_than_the_budget_is_cut(self) -> None:
        pytest.fail("without a reason")


class Testexcused(SchedulerContract):
    plugin_name = "lazy"

    @pytest.mark.xfail(reason="sleeps on the job", strict=True)
    def test_more_requests_than_slots_all_end(self) -> None:
        super().test_more_requests_than_slots_all_end()
