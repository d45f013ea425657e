from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = [
    ("status",),
    ("completion",),
    ("chat",),
    ("models",),
    ("models", "list"),
    ("models", "show"),
    ("models", "ps"),
    ("models", "load"),
    ("models", "unload"),
    ("tune",),
    ("adapters",),
    ("adapters", "list"),
    ("adapters", "load"),
    ("adapters", "unload"),
    ("plugins",),
    ("plugins", "list"),
    ("plugins", "check"),
    ("plugins", "info"),
    ("config",),
    ("config", "schema"),
    ("config", "check"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples_and_the_common_options(
    inferctl, command: tuple[str, ...]
) -> None:
    done = inferctl(*command, "--help")

    assert done.code == 0
    assert f"\ninferctl {' '.join(command)}" in done.out.partition("Examples:")[2]
    for option in ("--host", "--port", "--url", "--api-key", "--timeout", "--json"):
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
