from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import Blocked, Direction, GuardrailContext
from inferflux_guardrail_pii.config import ENTITIES, PIIConfig
from inferflux_guardrail_pii.guardrail import PIIGuardrail
from inferflux_guardrail_pii.plugin import inferflux_guardrails

CONTEXT = GuardrailContext("r-1", "default", "stub", Direction.PROMPT)


def test_it_registers_itself() -> None:
    (spec,) = inferflux_guardrails()
    config = msgspec.convert({"action": "block", "actions": {"email": "mask"}}, spec.config_type)
    text_filter = spec.factory(config).open(CONTEXT)
    assert spec.name == "pii"
    assert text_filter.feed("me@example.com ") == "[EMAIL] "
    with pytest.raises(Blocked):
        text_filter.feed("415-555-2671, ")


def test_registration_does_not_load_the_phone_tables() -> None:
    program = "import inferflux_guardrail_pii.plugin, sys; print('phonenumbers' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"


def test_by_default_everything_is_masked() -> None:
    config = msgspec.convert({}, PIIConfig)
    assert (config.entities, config.action) == (list(ENTITIES), "mask")


@pytest.mark.parametrize(
    "options",
    [{"entities": ["name"]}, {"action": "warn"}, {"actions": {"name": "mask"}}, {"mask": "*"}],
)
def test_unknown_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, PIIConfig)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (PIIConfig(entities=[]), "`entities` is empty"),
        (PIIConfig(entities=["email"], actions={"card": "block"}), "card"),
        (PIIConfig(phone_regions=["XX"]), "XX"),
    ],
)
def test_contradictions_are_refused(config: PIIConfig, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        PIIGuardrail(config)
