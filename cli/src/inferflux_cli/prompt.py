"""Where an interactive chat gets its input: a line editor on a terminal, plain lines otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from inferflux_cli.render import Output

__all__ = ["EditorReader", "LineReader", "Reader", "open_reader"]


class Reader(Protocol):
    """Source of messages."""

    at_terminal: bool

    def read(self) -> str | None:
        """Return the next message, perhaps of several lines; None at the end of input."""


class LineReader:
    """Reads messages from stdin, one a line; a trailing backslash joins the next line."""

    at_terminal = False

    def read(self) -> str | None:
        """Return the next message, perhaps of several lines; None at the end of input."""
        lines: list[str] = []
        for line in sys.stdin:
            text = line.rstrip("\r\n")
            if not text.endswith("\\"):
                return "\n".join([*lines, text])
            lines.append(text[:-1])
        return "\n".join(lines) if lines else None


class EditorReader:
    """Reads messages from a terminal, with editing, a history and several lines."""

    at_terminal = True

    def __init__(self, history: History) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=history,
            key_bindings=_key_bindings(),
            multiline=True,
            prompt_continuation="...> ",
            # The prompt must not end up in a file that takes the answers.
            output=create_output(always_prefer_tty=True),
        )

    def read(self) -> str | None:
        """Return the next message; None at Ctrl-D. Ctrl-C starts the line afresh."""
        while True:
            try:
                return self._session.prompt("you> ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None


def open_reader(output: Output) -> Reader:
    """Return the reader that fits this process's stdin and the wanted output."""
    at_terminal = sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())
    if not at_terminal or output.as_json:
        return LineReader()
    return EditorReader(_history(output))


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _submit(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def _history(output: Output) -> History:
    path = _state_dir() / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        path.chmod(0o600)
    except OSError as error:
        output.note(f"note: no input history, {path} cannot be written: {error.strerror}")
        return InMemoryHistory()
    return FileHistory(path)


def _state_dir() -> Path:
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The XDG specification has relative values ignored.
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "inferctl"
