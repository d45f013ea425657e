"""Questions to whoever sits at the terminal."""

from __future__ import annotations

import sys

import rich_click as click

from inferflux_cli.render import Output, clean

__all__ = ["ask", "can_ask", "confirm"]


def can_ask(output: Output) -> bool:
    """Return whether there is somebody: at a terminal, and not reading JSON."""
    return not output.as_json and sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> bool:
    """Ask for a yes, on stderr; Enter is a no.

    Raises:
        click.Abort: Ctrl-C, or the end of the input.
    """
    return click.confirm(clean(question), err=True)


def ask(question: str) -> str:
    """Ask for a line of text, on stderr; it may be empty.

    Raises:
        click.Abort: Ctrl-C, or the end of the input.
    """
    answer: str = click.prompt(clean(question), default="", show_default=False, err=True)
    return answer
