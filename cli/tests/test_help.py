from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from inferflux_cli.app import cli
from inferflux_cli.tools import load_tools

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group of commands, as one types it."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = list(commands(cli))


def test_the_commands_are_there() -> None:
    wanted = {("chat",), ("responses",), ("embed",), ("sse",), ("models", "show")}
    wanted |= {("models", "pull"), ("models", "cp"), ("models", "rm")}
    assert wanted <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_page_about_the_client_has_every_command(command: tuple[str, ...]) -> None:
    assert f"inferctl {' '.join(command)}" in DOCS.read_text(encoding="utf-8")


def test_the_tools_of_that_page_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "tools.yaml"
    file.write_text(DOCS.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0])

    (tool,) = load_tools(file)

    assert (tool.name, tool.command) == ("weather", ("python3", "weather.py", "--celsius"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples_and_the_common_options(
    inferctl, command: tuple[str, ...]
) -> None:
    done = inferctl(*command, "--help")

    assert done.code == 0
    assert f"\ninferctl {' '.join(command)}" in done.out.partition("Examples:")[2]
    for option in ("--host", "--port", "--url", "--api-key", "--timeout", "--output", "--json"):
        assert option in done.out


def test_help_is_plain_in_a_pipe_and_rich_on_a_terminal(inferctl_child, terminal) -> None:
    piped = inferctl_child("--help").out
    assert piped.isascii()
    assert "\x1b" not in piped

    screen = terminal("--help")
    assert screen.wait() == 0
    assert "\x1b[1" in screen.raw


def test_no_color_is_respected(terminal) -> None:
    screen = terminal("--help", NO_COLOR="1")

    assert screen.wait() == 0
    assert "\x1b[33m" not in screen.raw


def test_version(inferctl_child) -> None:
    assert inferctl_child("--version").out.startswith("inferctl, version ")


def test_the_client_imports_nothing_else_of_ours() -> None:
    script = """
import sys
import inferflux_cli.app, inferflux_cli.interactive, inferflux_cli.prompt
ours = {name.partition(".")[0] for name in sys.modules if name.startswith("inferflux")}
assert ours == {"inferflux_cli"}, ours
"""
    subprocess.run([sys.executable, "-c", script], check=True)
