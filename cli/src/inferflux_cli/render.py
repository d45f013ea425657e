"""Output: answers and JSON on stdout, everything else on stderr; rich only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from inferflux_cli.errors import CliError

__all__ = ["Output", "clean", "duration", "size"]

# C0, DEL and C1: a model must not move the cursor, rename the window or write the clipboard.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
del _CONTROLS[ord("\n")], _CONTROLS[ord("\t")]


def clean(text: str) -> str:
    """Return `text` without control characters, except newline and tab."""
    return text.translate(_CONTROLS)


class Output:
    """Writes what a command has to say.

    Args:
        as_json: print machine-readable JSON only; the other forms of stdout output are dropped.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.tty = sys.stdout.isatty()
        self._last = "\n"

    def text(self, fragment: str) -> None:
        """Write a piece of an answer at once, as it is; neutralised on a terminal."""
        if self.as_json or not fragment:
            return
        # Noted first: an interrupt may come as soon as the text is out.
        self._last = fragment[-1]
        sys.stdout.write(clean(fragment) if self.tty else fragment)
        sys.stdout.flush()

    def end(self) -> None:
        """Finish the line that `text` left open."""
        if self._last != "\n":
            self.text("\n")

    def json(self, value: object) -> None:
        """Write one line, if JSON was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(value) + "\n")
            sys.stdout.flush()

    def note(self, message: str) -> None:
        """Write one line for the human to stderr; scripts that asked for JSON get none."""
        if self.as_json:
            return
        self.end()
        sys.stderr.write(clean(message) + "\n")
        sys.stderr.flush()

    def error(self, error: CliError) -> None:
        """Report a failure to stderr, as text or as a JSON line."""
        if self.as_json:
            sys.stderr.write(json.dumps({"error": error.to_json()}) + "\n")
            sys.stderr.flush()
        self.note(f"error: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write rows: a table on a terminal, else one tab-separated line each."""
        if self.as_json:
            return
        cells = [[clean(_cell(value)) for value in row] for row in rows]
        if not self.tty:
            for row in cells:
                self.text("\t".join(row) + "\n")
            return
        table = Table(*columns, box=None, show_header=any(columns), pad_edge=False)
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        Console(highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).replace("\n", " ").replace("\t", " ")


def size(value: object) -> str | None:
    """A number of bytes, for people."""
    if not isinstance(value, int):
        return None
    return f"{value / 2**20:,.0f} MiB" if value < 2**30 else f"{value / 2**30:,.1f} GiB"


def duration(seconds: float) -> str:
    """A time span, for people."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
