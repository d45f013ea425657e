"""Showing that something takes its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from inferflux_cli.render import clean

__all__ = ["progress"]


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Show `what` and the time since it began on stderr, if that is a terminal, until it is over."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        shown.add_task(Text(clean(what)).markup, total=None)
        yield
