"""`plugins` and `config` hand over to the server's own modules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferflux_cli.commands import local

_SCRIPT = """
import json, sys
print(json.dumps([__spec__.name, *sys.argv[1:]]))
print("to stderr", file=sys.stderr)
sys.exit(5)
"""


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """A stand-in for the core, to be put in front of an installed one."""
    package = tmp_path / "site" / "inferflux_core"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "plugins.py").write_text(_SCRIPT)
    return package


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (("plugins", "list"), ["list"]),
        (("plugins", "check", "cpu"), ["check", "cpu"]),
        (("plugins", "info", "cpu", "--json"), ["info", "cpu", "--json"]),
        (("--json", "plugins", "list"), ["list", "--json"]),
    ],
)
def test_output_and_exit_code_pass_through(
    core: Path, inferctl_child, command: tuple[str, ...], arguments: list[str]
) -> None:
    done = inferctl_child(*command, PYTHONPATH=str(core.parent))

    assert json.loads(done.out) == ["inferflux_core.plugins", *arguments]
    assert (done.code, done.err) == (5, "to stderr\n")


@pytest.mark.parametrize("command", [("schema",), ("check", "server.yaml")])
def test_an_installation_without_the_module(
    core: Path, inferctl_child, command: tuple[str, ...]
) -> None:
    done = inferctl_child("config", *command, PYTHONPATH=str(core.parent))

    assert (done.code, done.out) == (1, "")
    assert "pip install inferflux" in done.err


def test_no_installation(inferctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_CORE", "inferflux_not_installed")

    done = inferctl("plugins", "list")

    assert (done.code, done.out) == (1, "")
    assert "pip install inferflux" in done.err


def test_the_current_directory_cannot_pose_as_the_server(
    core: Path, inferctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(core.parent)
    monkeypatch.setenv("PYTHONPATH", str(core.parent))

    assert inferctl("plugins", "list").code == 5
