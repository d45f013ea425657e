"""`inferctl admin audit`: the audit log of a server elsewhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.commands.admin.server import administration, entries
from inferflux_cli.commands.admin.times import moment
from inferflux_cli.settings import connection_options

__all__ = ["search"]

_MOST: Final = 1000
_LEFT_OUT: Final = ("seq", "time", "event", "prev", "prompts", "digest")
_PLAIN: Final = re.compile(r"[\w./:@+-]+", re.ASCII)


@click.command(
    "audit",
    epilog=examples(
        "inferctl admin audit --event refused --since 1h",
        "inferctl admin audit --tenant acme --since 2026-11-01 --until 2026-12-01 -n 1000",
        "inferctl admin audit --json",
    ),
)
@click.option("--event", help="Such as received, completed, refused, action or acted.")
@click.option("--subject", help="Who.")
@click.option("--tenant", help="Whose.")
@click.option("--model", help="The model, or what an action was about.")
@click.option("--since", type=moment, metavar="TIME", help="A date, or an age such as 90m or 2d.")
@click.option("--until", type=moment, metavar="TIME", help="The same.")
@click.option(
    "-n", "limit", type=click.IntRange(1, _MOST), help="How many, of the last. [default: 100]"
)
@connection_options
def search(**wanted: Any) -> None:
    """Print the last records of the server's audit log that match, oldest first.

    Needs a key with the scope audit:read. Beside the log, `inferctl audit` does more.
    """
    with administration() as admin:
        found = admin.get("audit", **wanted)
        admin.output.json(found)
        for record in entries(found):
            admin.output.text(f"{_line(record)}\n")
        if found.get("has_more"):
            admin.output.note("note: there are earlier ones: raise -n, or narrow it with --until")


def _line(record: dict[str, Any]) -> str:
    try:
        when = datetime.fromtimestamp(record["time"], UTC).isoformat(timespec="milliseconds")
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        when = _quoted(record.get("time"))
    rest = (f"{k}={_quoted(v)}" for k, v in record.items() if k not in _LEFT_OUT)
    return " ".join((_quoted(record.get("seq")), when, _quoted(record.get("event")), *rest))


def _quoted(value: object) -> str:
    """A value in which nothing can take over a terminal or look like another field."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else ascii(text)
