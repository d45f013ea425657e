from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from inferflux_core.config import Config
from inferflux_core.config.__main__ import main


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command reads the real environment."""
    for name in [name for name in os.environ if name.startswith("INFERFLUX_")]:
        monkeypatch.delenv(name)


def test_the_schema_describes_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0

    schema = json.loads(capsys.readouterr().out)
    root = schema["$defs"]["Config"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(root["properties"]) == {field.name for field in msgspec.structs.fields(Config)}
    assert root["additionalProperties"] is False


def test_a_good_file_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("server: {port: 9000}\n")

    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == "OK\n"


def test_a_bad_file_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("server:\n  prot: 9000\n")

    assert main(["check", str(path)]) == 2

    captured = capsys.readouterr()
    assert captured.err == f"{path}:2: server.prot: unknown key\n  hint: did you mean port?\n"
    assert captured.out == ""


def test_variables_and_flags_are_checked_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("")

    assert main(["check", str(path), "-o", "server.port=x"]) == 2
    assert "flag -o server.port" in capsys.readouterr().err
    monkeypatch.setenv("INFERFLUX_TYPO", "1")
    assert main(["check", str(path)]) == 2
    assert "environment variable INFERFLUX_TYPO" in capsys.readouterr().err


def test_it_runs_as_a_module_and_its_help_has_examples() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "inferflux_core.config", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "examples:" in result.stdout
