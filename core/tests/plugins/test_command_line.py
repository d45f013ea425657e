from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from inferflux_core.plugins.__main__ import main

Install = Callable[..., None]

BACKEND = """
import msgspec
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import BackendSpec, Probe

@hookimpl
def inferflux_backends():
    yield BackendSpec(
        name="echo",
        summary="Repeats the prompt",
        factory=print,
        probe=lambda: Probe(available={available}, reason={reason!r}, devices=("a mirror",)),
        capabilities=frozenset(["lora", "gguf"]),
    )
"""


@pytest.fixture
def echo(install: Install) -> Callable[..., None]:
    """Install the backend `echo`, whose probe answers as told."""

    def write(*, available: bool = True, reason: str = "works everywhere") -> None:
        source = BACKEND.format(available=available, reason=reason)
        install("echo", source, group="inferflux.backends")

    return write


def test_list_reads_metadata_only(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("idle", "raise AssertionError")

    assert main(["list", "--kind", "scheduler"]) == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["KIND", "NAME", "DISTRIBUTION", "VERSION", "STATUS", "DETAIL"]
    assert ["scheduler", "idle", "acme-idle", "0.3", "installed", "-"] in lines
    assert "fake_idle" not in sys.modules


def test_list_shows_conflicts_as_json(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("twin", distribution="acme-one")
    install("twin", distribution="acme-two")

    assert main(["list", "--json"]) == 0

    rows = [row for row in json.loads(capsys.readouterr().out) if row["name"] == "twin"]
    assert [row["status"] for row in rows] == ["conflict", "conflict"]
    assert rows[0]["detail"] == "provided by acme-one 0.3 and acme-two 0.3"


def test_info_describes_a_plugin(echo, capsys: pytest.CaptureFixture[str]) -> None:
    echo()

    assert main(["info", "echo", "--json"]) == 0

    info = json.loads(capsys.readouterr().out)
    assert info["summary"] == "Repeats the prompt"
    assert info["distribution"] == "acme-echo"
    assert info["capabilities"] == ["gguf", "lora"]
    assert info["config_schema"]["$ref"] == "#/$defs/EmptyConfig"


def test_info_is_readable_too(echo, capsys: pytest.CaptureFixture[str]) -> None:
    echo()

    assert main(["info", "echo"]) == 0

    assert "capabilities:  gguf, lora\n" in capsys.readouterr().out


def test_check_accepts_a_backend_that_can_run(echo, capsys: pytest.CaptureFixture[str]) -> None:
    echo()

    assert main(["check", "echo", "--json"]) == 0

    verdict = json.loads(capsys.readouterr().out)
    assert verdict["ok"]
    assert verdict["devices"] == ["a mirror"]


def test_check_fails_where_a_backend_cannot_run(echo, capsys: pytest.CaptureFixture[str]) -> None:
    echo(available=False, reason="no mirror in this room")

    assert main(["check", "echo"]) == 1

    assert "no mirror in this room" in capsys.readouterr().out


def test_check_of_another_kind_loads_it(install: Install) -> None:
    install("lifo")

    assert main(["check", "lifo", "--kind", "scheduler"]) == 0


def test_check_fails_for_a_broken_plugin(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("bad", "1 / 0")

    assert main(["check", "bad"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert main(["check", "bad", "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert not verdict["ok"]
    assert "ZeroDivisionError" in verdict["reason"]
    assert "pip install" in verdict["hint"]


def test_an_unknown_name_of_ours_comes_with_the_pip_command(
    only_fakes: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    only_fakes("lifo")

    assert main(["check", "rocm"]) == 1

    assert 'pip install "inferflux[rocm]"' in capsys.readouterr().err


def test_a_name_of_two_kinds_needs_the_kind(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("both", distribution="acme-one")
    install("both", distribution="acme-two", group="inferflux.guardrails")

    assert main(["check", "both"]) == 1

    assert "several plugins: scheduler, guardrail\n  hint: add --kind" in capsys.readouterr().err


def test_it_runs_as_a_module_and_its_help_has_examples() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "inferflux_core.plugins", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "examples:" in result.stdout
