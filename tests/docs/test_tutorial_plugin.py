"""The tutorial, done for real: build, install, test, select, ask, remove."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.pages import ROOT, blocks
from support.servers import RunningServer, command, environment, free_port, running_server

pytestmark = pytest.mark.slow

NAME = "inferflux-backend-echo"
TUTORIAL = ROOT / "docs" / "plugins" / "index.md"
KEY = "tutorial"


def shown(language: str) -> list[str]:
    """The blocks of the tutorial in one language."""
    return [block.text for block in blocks(TUTORIAL) if block.language == language]


def run(*arguments: str | Path, **options: Any) -> str:
    """Run a module of this environment; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@dataclass(frozen=True)
class ThrowAway:
    """An environment with nothing in it but the plugin."""

    python: Path
    site: Path

    @property
    def variables(self) -> dict[str, str]:
        """For processes of this environment that shall find the plugin as well."""
        return {**os.environ, "PYTHONPATH": str(self.site), "MY_KEY": KEY}

    def pip(self, *arguments: str | Path) -> str:
        return run("pip", "--python", self.python, "--disable-pip-version-check", *arguments)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example."""
    folder = tmp_path_factory.mktemp("source") / NAME
    return shutil.copytree(ROOT / "docs" / "examples" / NAME, folder)


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """The example, built."""
    run(
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        source / "dist",
        source,
    )
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> ThrowAway:
    """The plugin, installed by pip."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    environment = ThrowAway(folder / "bin" / "python", site)
    environment.pip("install", "--no-deps", "--no-index", wheel)
    return environment


def answer(server: RunningServer) -> str:
    """What the server says to the request that the tutorial shows."""
    (body,) = re.findall(r"-d '(.*)'", "".join(shown("console")))
    with server.client(KEY) as client:
        response = client.post("/v1/chat/completions", json=json.loads(body))
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def refusal(folder: Path, config: str, variables: dict[str, str]) -> str:
    """What a server says that does not start."""
    file = folder / "server.yaml"
    file.write_text(config)
    done = subprocess.run(
        command(file, "--port", str(free_port())),
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_selected_by_name_it_answers_with_the_prompt(installed: ThrowAway, tmp_path: Path) -> None:
    with_echo, _ = shown("yaml")
    with running_server(tmp_path, yaml.safe_load(with_echo), installed.variables) as server:
        assert answer(server) == "Hello?"
        assert server.stop() == 0


def test_its_own_tests_pass(installed: ThrowAway, source: Path) -> None:
    printed = run("pytest", "-q", "-W", "error", "tests", env=installed.variables, cwd=source)
    assert re.search(r"\d\d passed", printed)
    assert "failed" not in printed


def test_check_prints_what_the_tutorial_shows(installed: ThrowAway) -> None:
    expected, _ = shown("text")
    check = ("inferflux_core.plugins", "check", "echo")
    assert run(*check, env=installed.variables) == expected


def test_another_name_in_the_configuration_removes_it(installed: ThrowAway, tmp_path: Path) -> None:
    with_echo, with_stub = shown("yaml")
    code = installed.site / "inferflux_backend_echo" / "plugin.py"
    code.write_text("raise RuntimeError('imported')\n")
    with running_server(tmp_path, yaml.safe_load(with_stub), installed.variables) as server:
        assert "stub" in answer(server)
        assert server.stop() == 0
    assert "RuntimeError: imported" in refusal(tmp_path, with_echo, installed.variables)


def test_uninstalled_it_is_refused_by_name(installed: ThrowAway, tmp_path: Path) -> None:
    with_echo, _ = shown("yaml")
    _, expected = shown("text")
    installed.pip("uninstall", "--yes", NAME)
    said = refusal(tmp_path, with_echo, installed.variables)
    assert expected.strip() in said
    assert "hint:" in said
    assert "Traceback" not in said
