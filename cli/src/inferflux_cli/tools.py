"""Tools for the model to call: their file, and the commands behind them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import yaml

from inferflux_cli.errors import CliError
from inferflux_cli.files import read_text
from inferflux_cli.settings import API_KEY_VARIABLE

__all__ = ["CommandResult", "Tool", "load_tools", "run_command"]

MAX_RESULT_BYTES: Final = 2**20
_KEYS: Final = frozenset({"type", "function", "command"})
_HINT: Final = (
    "the file holds a list of OpenAI tool definitions, {type: function, function: {name: ...}}, each"
    " perhaps with command: [program, argument, ...]"
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool.

    Attributes:
        definition: as the server gets it.
        command: program and arguments that do it; None where somebody else must.
    """

    name: str
    definition: dict[str, Any]
    command: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command had to say.

    Attributes:
        problem: why `output` is not its result; None if all went well.
    """

    output: str
    stderr: str
    problem: str | None


def load_tools(path: Path) -> list[Tool]:
    """Return the tools of a JSON or YAML file.

    Raises:
        CliError: it cannot be read, or does not hold tools.
    """
    text = read_text(path)
    try:
        # YAML reads JSON, too, but complains less clearly.
        document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        given = document.get("tools") if isinstance(document, dict) else document
        if not isinstance(given, list) or not given:
            raise ValueError("it holds no list of tools")
        tools = [_tool(item, f"tool {number}") for number, item in enumerate(given, 1)]
        names = [tool.name for tool in tools]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"there are two tools called {twice}")
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise CliError(f"{path} cannot be used: {error}", hint=_HINT) from error
    return tools


def _tool(item: Any, what: str) -> Tool:
    if not isinstance(item, dict) or item.get("type", "function") != "function":
        raise ValueError(f"{what} is not of the type function")
    if unknown := item.keys() - _KEYS:
        raise ValueError(f"{what} has the unknown field {sorted(map(str, unknown))[0]}")
    function = item.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f"{what} has no function.name")
    command = item.get("command")
    if command is not None and not _is_command(command):
        raise ValueError(f"the command of {name} is not a list of texts")
    # YAML knows dates and sets; a request does not.
    json.dumps(function)
    return Tool(name, {"type": "function", "function": function}, command and tuple(command))


def _is_command(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def run_command(command: Sequence[str], arguments: str, timeout: float) -> CommandResult:
    """Run a tool's command, without a shell and without our API key.

    Args:
        command: program and arguments.
        arguments: of the call, for its stdin.
        timeout: in seconds; afterwards it is killed, with all that it started.

    Raises:
        CliError: it cannot be started.
    """
    environment = {k: v for k, v in os.environ.items() if k != API_KEY_VARIABLE}
    # Files rather than pipes: memory stays bounded, and what it leaves behind holds nothing open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(  # noqa: S603 (a list, no shell)
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CliError(f"cannot run {command[0]}: {reason}") from error
        problem = _finish(process, arguments, timeout)
        output, stderr = _head(out), _head(err)
    if problem is None and len(output) > MAX_RESULT_BYTES:
        problem = f"the command wrote more than {MAX_RESULT_BYTES:,} bytes"
    return CommandResult(
        output[:MAX_RESULT_BYTES].decode(errors="replace"),
        stderr[:MAX_RESULT_BYTES].decode(errors="replace"),
        problem,
    )


def _finish(process: subprocess.Popen[bytes], arguments: str, timeout: float) -> str | None:
    """Wait for a command; return what went wrong."""
    try:
        process.communicate(arguments.encode(errors="replace"), timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"the command took longer than {timeout:g} s"
    finally:
        if process.poll() is None:
            _kill(process)
    return f"the command ended with status {process.returncode}" if process.returncode else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _head(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(MAX_RESULT_BYTES + 1)
