"""Making a file or a folder at the command line: a bar, all or nothing, and a report."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

from inferflux_core.errors import ModelLoadError, StartupError
from inferflux_core.models.reference import resolve

__all__ = ["add_common_arguments", "find_source", "replaced_file", "replaced_folder", "run"]

_BAR: Final = 40
_FORCE: Final = "choose another name, or replace it with --force"


def add_common_arguments(parser: argparse.ArgumentParser, target: str) -> None:
    """Add what all commands that make something have.

    Args:
        parser: of the command.
        target: what is made, for the help.
    """
    parser.add_argument(
        "source", metavar="SOURCE", help="a path, or a reference like pkg://module/file"
    )
    parser.add_argument("target", metavar="TARGET", type=Path, help=target)
    parser.add_argument("--force", action="store_true", help="replace TARGET if it is there")
    parser.add_argument("--json", action="store_true", help="print JSON")


def find_source(reference: str) -> Path:
    """The file or folder that a command begins from.

    Raises:
        ModelLoadError: there is none.
    """
    if "://" not in reference and not Path(reference).expanduser().exists():
        raise ModelLoadError(
            f"there is no {reference}", hint="SOURCE is a path, or a reference like hf://org/repo"
        )
    return resolve(reference)


def run(make: Callable[[Callable[[float], None]], dict[str, Any]], *, as_json: bool) -> int:
    """Make it, tell of it and return the exit status: 0, 1 if it cannot be made, or 130.

    Args:
        make: gets what is to be called with the share that is done, and returns the report, with `target`.
        as_json: print the report, or the failure, as JSON to stdout.
    """
    try:
        with _bar() as report:
            made = make(report)
    except StartupError as error:
        return _failed(error, as_json=as_json)
    except (OSError, MemoryError) as error:
        return _failed(StartupError(str(error) or type(error).__name__), as_json=as_json)
    except KeyboardInterrupt:
        return 130
    rest = ", ".join(f"{key} {value}" for key, value in made.items() if key != "target")
    text = json.dumps({"ok": True, **made}) if as_json else f"{made['target']} written: {rest}"
    sys.stdout.write(f"{text}\n")
    return 0


@contextlib.contextmanager
def replaced_file(target: Path, *, force: bool) -> Iterator[Path]:
    """A path to write to, which becomes `target` at the end if nothing fails.

    Raises:
        ModelLoadError: there is something in its place.
    """
    if target.is_dir() or (target.exists() and not force):
        raise ModelLoadError(f"{target} is there already", hint=_FORCE)
    with _workplace(target) as place:
        yield place / target.name
        (place / target.name).replace(target)


@contextlib.contextmanager
def replaced_folder(target: Path, names: Collection[str], *, force: bool) -> Iterator[Path]:
    """A folder to write to, which becomes `target` at the end if nothing fails.

    Args:
        target: what is to be.
        names: of the files that are written; a folder with others is never replaced.
        force: whether a folder may be replaced.

    Raises:
        ModelLoadError: there is something in its place.
    """
    there = target.exists() or target.is_symlink()
    if there and not force:
        raise ModelLoadError(f"{target} is there already", hint=_FORCE)
    if there and (target.is_symlink() or not target.is_dir()):
        raise ModelLoadError(f"{target} is no folder", hint="choose another name")
    foreign = sorted({file.name for file in target.iterdir()} - set(names)) if there else []
    if foreign:
        raise ModelLoadError(
            f"{target} holds {foreign[0]!r}, which is no file of a converted model",
            hint="choose another name, or remove the folder yourself",
        )
    with _workplace(target) as place:
        new, old = place / "new", place / "old"
        new.mkdir()
        yield new
        if there:
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if there:
                old.rename(target)
            raise


@contextlib.contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """A private folder beside `target`, on the same file system; removed at the end."""
    if not target.parent.is_dir():
        raise ModelLoadError(f"there is no folder {target.parent}", hint="make it first")
    place = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", dir=target.parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[float], None]]:
    """Shows the share that is done, on a terminal."""
    shown = -1

    def report(share: float) -> None:
        nonlocal shown
        percent = int(100 * share)
        if percent > shown and sys.stderr.isatty():
            shown = percent
            done = "#" * (_BAR * percent // 100)
            sys.stderr.write(f"\r[{done:<{_BAR}}] {percent:3d} %")
            sys.stderr.flush()

    try:
        yield report
    finally:
        if shown >= 0:
            sys.stderr.write("\n")


def _failed(error: StartupError, *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(
            json.dumps({"ok": False, "error": error.message, "hint": error.hint}) + "\n"
        )
    else:
        sys.stderr.write(f"error: {error}\n")
    return 1
