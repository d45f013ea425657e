"""The real Presidio, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.presidio_environment import module_path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SESSION = Path(__file__).with_name("presidio_session.py")

TEXTS = {
    "pay with 4111 1111 1111 1111": "CREDIT_CARD",
    "pay with 4111 1111 1111 1112": None,
    "write to ada@example.co.uk": "EMAIL_ADDRESS",
    "write to ada@example.notadomain": "URL",
    "send it to GB33BUKB20201555555555": "IBAN_CODE",
    "nothing of the kind": None,
    "": None,
}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"entities": ["PERSON"]}, "nothing would ever find PERSON"),
    ({"entities": ["EMAIL_ADDRESS", "NOSUCH"]}, "nothing would ever find NOSUCH"),
    ({"language": "xx"}, "accepted"),
    ({"language": "qqq"}, "Choose a language"),
    ({"model": "en_core_web_absent"}, "pip install the spaCy model 'en_core_web_absent'"),
]


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> dict[str, list[str | None]]:
    """Of one process: Presidio takes two seconds to load."""
    wanted = [options for options, _ in REFUSED]
    path = str(module_path(request.config))
    process = subprocess.run(
        [sys.executable, SESSION, json.dumps([list(TEXTS), wanted])],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, list[str | None]] = json.loads(process.stdout)
    return found


def test_it_finds_what_follows_a_pattern_without_model_and_network(answers: Any) -> None:
    assert dict(zip(TEXTS, answers["found"], strict=True)) == TEXTS


def test_it_looks_only_for_what_is_asked_for(answers: Any) -> None:
    assert answers["cards"] == ["CREDIT_CARD"] + [None] * (len(TEXTS) - 1)


def test_what_it_is_not_sure_of_does_not_count(answers: Any) -> None:
    found = dict(zip(TEXTS, answers["sure"], strict=True))
    assert found == {**TEXTS, "write to ada@example.notadomain": None}


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_what_would_find_nothing_stops_the_start(answers: Any, index: int) -> None:
    assert REFUSED[index][1] in answers["refused"][index]
