"""`inferctl audit`: look into the audit log of a server on this machine, or verify one from anywhere."""

from __future__ import annotations

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.commands.local import as_path, run_module
from inferflux_cli.settings import connection_options

__all__ = ["audit"]

_MODULE = ("inferflux_api", "governance.audit")


@click.group(epilog=examples("inferctl audit tail audit.jsonl", "inferctl audit verify --help"))
@connection_options
def audit() -> None:
    """Look into an audit log, or verify it."""


@audit.command(
    "tail",
    epilog=examples(
        "inferctl audit tail audit.jsonl -n 20", "inferctl audit tail a.jsonl --follow"
    ),
)
@click.argument("file", metavar="FILE")
@click.option("-n", "count", type=click.IntRange(1), default=10, help="How many. [default: 10]")
@click.option("--follow", is_flag=True, help="Go on as records are written.")
@connection_options
def tail(*, file: str, count: int, follow: bool) -> None:
    """Print the last records."""
    options = ["-n", str(count), *(["--follow"] if follow else [])]
    run_module(*_MODULE, "tail", *options, as_path(file))


@audit.command(
    "search",
    epilog=examples(
        "inferctl audit search audit.jsonl --event refused --since 1h",
        "inferctl audit search audit.jsonl --tenant acme --since 2026-11-01 --until 2026-12-01",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--subject", help="Who.")
@click.option("--tenant", help="Whose.")
@click.option("--model", help="The model, or what an action was about.")
@click.option("--event", help="Such as received, completed, refused, action or acted.")
@click.option("--since", metavar="TIME", help="A date, or an age such as 90m or 2d.")
@click.option("--until", metavar="TIME", help="The same.")
@connection_options
def search(*, files: tuple[str, ...], **wanted: str | None) -> None:
    """Print the records that match, oldest first."""
    options = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
    run_module(*_MODULE, "search", *options, *map(as_path, files))


@audit.command(
    "verify",
    epilog=examples(
        "inferctl audit verify audit.jsonl --public-key audit.jsonl.pub",
        "Exit status: 0 intact, 1 changed or records missing, 2 not readable, 5 the end is missing.",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--public-key",
    "keys",
    metavar="FILE",
    multiple=True,
    required=True,
    help="Of the key that signs the log; repeatable.",
)
@connection_options
def verify(*, files: tuple[str, ...], keys: tuple[str, ...]) -> None:
    """Say whether a log is whole, or where it was changed. Full files are found beside it."""
    options = [f"--public-key={key}" for key in keys]
    run_module(*_MODULE, "verify", *options, *map(as_path, files))
