"""Fixtures: a scripted server, and the client run in this process, as a child or on a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from inferctl_fakes import PATIENCE, FakeServer, Finished, Terminal

from inferflux_cli.main import main


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every run a home of its own and nobody's keys or colours."""
    for name in (
        "INFERCTL_API_KEY",
        "XDG_CONFIG_HOME",
        "NO_COLOR",
        "FORCE_COLOR",
        "GITHUB_ACTIONS",
    ):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    return home


@pytest.fixture
def inferctl(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """Run the client in this process against `server`."""

    def run(*arguments: str, stdin: str = "") -> Finished:
        monkeypatch.setattr(sys, "argv", ["inferctl", "--port", str(server.port), *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return Finished(int(exit_.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def inferctl_child(server: FakeServer) -> Callable[..., Finished]:
    """Run the client as a child process against `server`."""

    def run(*arguments: str, stdin: bytes = b"", **env: str) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "inferflux_cli", "--port", str(server.port), *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, **env},
            timeout=PATIENCE,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def terminal(server: FakeServer) -> Iterator[Callable[..., Terminal]]:
    """Run the client on a pseudo-terminal against `server`."""
    opened: list[Terminal] = []

    def start(*arguments: str, stdout: int | None = None, **env: str) -> Terminal:
        line = Terminal(
            "--port", str(server.port), *arguments, env={**os.environ, **env}, stdout=stdout
        )
        opened.append(line)
        return line

    yield start
    for line in opened:
        line.close()
