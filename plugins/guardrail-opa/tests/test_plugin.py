from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import Direction, Reviewer
from inferflux_guardrail_opa.config import OPAConfig
from inferflux_guardrail_opa.plugin import inferflux_guardrails

ENDPOINT = "http://127.0.0.1:8181/v1/data/inferflux/allow"


def test_it_registers_itself() -> None:
    (spec,) = inferflux_guardrails()
    config = msgspec.convert({"endpoint": ENDPOINT, "checks": ["prompt"]}, spec.config_type)
    reviewer = spec.factory(config)
    assert spec.name == "opa"
    assert isinstance(reviewer, Reviewer)
    assert reviewer.directions == {Direction.PROMPT}
    assert reviewer.piece is None


def test_registration_does_not_load_the_client() -> None:
    program = "import inferflux_guardrail_opa.plugin, sys; print('httpx2' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "opa",
        "http://opa.example/v1/data/a",
        "http://169.254.169.254/v1/data/a",
        "http://127.0.0.1@opa.example/v1/data/a",
        "https://name:word@opa.example/v1/data/a",
        "https://",
        "https://[::1/v1",
        "https://opa.example:99999/",
        "file:///etc/passwd",
        "https://opa.example/#a",
    ],
)
def test_prompts_do_not_travel_in_the_clear(endpoint: str) -> None:
    (spec,) = inferflux_guardrails()
    with pytest.raises(ConfigError, match="opa_endpoint"):
        spec.factory(OPAConfig(endpoint=endpoint))


@pytest.mark.parametrize(
    "endpoint",
    ["https://opa.example/v1/data/a?metrics", "http://[::1]:8181/v1/data/a", "http://localhost/v1"],
)
def test_other_addresses_are_fine(endpoint: str) -> None:
    (spec,) = inferflux_guardrails()
    assert spec.factory(OPAConfig(endpoint=endpoint))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"endpoint": ENDPOINT, "action": "mask"},
        {"endpoint": ENDPOINT, "checks": []},
        {"endpoint": ENDPOINT, "timeout": 0},
        {"endpoint": ENDPOINT, "timeout": 60},
        {"endpoint": ENDPOINT, "piece": 0},
        {"endpoint": ENDPOINT, "api": "grpc"},
        {"endpoint": ENDPOINT, "retries": 3},
    ],
)
def test_unknown_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, OPAConfig)
