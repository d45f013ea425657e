"""The kit catches defects: plugins with one defect each fail the test that is about it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

BROKEN = Path(__file__).parent / "broken"

CAUGHT_BY = {
    "batchy": "test_a_batch_computes_what_each_sequence_would_alone",
    "chunky": "test_a_prompt_in_chunks_is_a_prompt",
    "forgetful": "test_a_released_slot_remembers_nothing",
    "fragile": "test_it_can_be_closed_twice",
    "hasty": "test_whoever_wants_logits_gets_one_row",
    "lossy": "test_the_pieces_of_a_text_are_the_text",
    "misplaced": "test_exported_state_continues_elsewhere",
    "nan": "test_whoever_wants_logits_gets_one_row",
    "choosy": "test_more_requests_than_slots_all_end",
    "crowded": "test_more_requests_than_slots_all_end",
    "deaf": "test_every_request_ends_once_with_the_tokens_it_would_get_alone",
    "dishonest": "test_aborting_one_that_waits",
    "fickle": "test_more_requests_than_slots_all_end",
    "haunted": "test_aborting_one_that_waits",
    "lazy": "test_more_requests_than_slots_all_end",
    "ragged": "test_a_prompt_longer_than_the_budget_is_cut",
    "spendthrift": "test_every_request_ends_once_with_the_tokens_it_would_get_alone",
    "hoarder": "test_harmless_text_passes_unchanged",
    "lenient": "test_what_is_blocked_stays_blocked",
    "naive": "test_the_outcome_does_not_depend_on_the_pieces",
    "shared": "test_streams_do_not_disturb_each_other",
    "telltale": "test_findings_do_not_get_through",
    "blabber": "test_a_good_credential_names_its_bearer",
    "clumsy": "test_an_unknown_credential_is_refused_or_left_to_others",
    "generous": "test_an_unknown_credential_is_refused_or_left_to_others",
    "once": "test_it_can_be_started_and_stopped_twice",
    "missing": "test_it_is_found_by_name_and_its_spec_is_valid",
    "replacing": "test_no_test_of_the_contract_is_replaced",
}

Failures = Mapping[str, Mapping[str, str]]


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Failures:
    """Runs every contract on the broken plugins: message by test, by plugin."""
    folder = tmp_path_factory.mktemp("kit")
    report = folder / "report.xml"
    contracts = BROKEN / "contracts_of_broken_plugins.py"
    arguments = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", str(contracts)]
    subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        env={**os.environ, "PYTHONPATH": str(BROKEN)},
        cwd=folder,
        capture_output=True,
        check=False,
    )
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        plugin = case.attrib["classname"].rpartition(".Test")[2]
        for failure in case.iter("failure"):
            found[plugin][case.attrib["name"].partition("[")[0]] = failure.attrib["message"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("plugin", "test"), CAUGHT_BY.items())
def test_a_defect_is_caught(failures: Failures, plugin: str, test: str) -> None:
    assert test in failures[plugin]


@pytest.mark.slow
def test_a_probe_that_misbehaves_is_caught(failures: Failures) -> None:
    found = failures["rude"]
    assert found.keys() == {
        "test_the_probe_gives_a_reason",
        "test_the_probe_is_quick",
        "test_the_probe_leaves_nothing_behind",
    }
    assert "environment variables" in found["test_the_probe_leaves_nothing_behind"]
    assert "threads" in found["test_the_probe_leaves_nothing_behind"]


@pytest.mark.slow
def test_every_standard_test_that_was_replaced_is_named(failures: Failures) -> None:
    message = failures["replacing"]["test_no_test_of_the_contract_is_replaced"]
    assert "test_aborting_one_that_waits" in message
    assert "test_more_requests_than_slots_all_end" in message
    assert "test_a_prompt_longer_than_the_budget_is_cut" in message


@pytest.mark.slow
def test_a_deviation_with_a_reason_is_accepted(failures: Failures) -> None:
    assert "test_no_test_of_the_contract_is_replaced" not in failures["excused"]
    assert "test_more_requests_than_slots_all_end" not in failures["excused"]


@pytest.mark.slow
def test_a_failure_shows_both_sides(failures: Failures) -> None:
    message = failures["hoarder"]["test_harmless_text_passes_unchanged"]
    assert "released: 'a ' != 'a sec'" in message


def test_the_fakes_come_without_test_libraries() -> None:
    code = (
        "from inferflux_core.testing import DeterministicRunner, make_request; import sys;"
        "sys.exit(bool({'pytest', 'hypothesis'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
