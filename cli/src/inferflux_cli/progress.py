"""Showing that something takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from inferflux_cli.render import clean

__all__ = ["Transfer", "progress", "transfer"]

Transfer = Callable[[str, int, int], None]
"""Takes what is transferred, how many bytes are there and how many there will be."""


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


@contextmanager
def transfer() -> Iterator[Transfer | None]:
    """Yield what shows a bar for each transfer on stderr; None if that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True)),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console) as shown:
        tasks: dict[str, TaskID] = {}

        def show(what: str, completed: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(Text(clean(what)).markup, total=total)
            shown.update(tasks[what], completed=completed, total=total)

        yield show
