"""`python -m inferflux_api.governance.audit`: look into an audit log, or verify it."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from inferflux_api.governance.audit.keys import Verifier
from inferflux_api.governance.audit.reading import (
    Query,
    files_of,
    follow,
    last_entries,
    matching,
)
from inferflux_api.governance.audit.records import Entry
from inferflux_api.governance.audit.verification import Report, Verification
from inferflux_core.errors import ConfigError

__all__ = ["main"]

_STATUSES: Final = {"intact": 0, "broken": 1, "truncated": 5}
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LEFT_OUT: Final = ("seq", "time", "event", "prev", "prompts", "digest")
_EXAMPLES: Final = """\
examples:
  python -m inferflux_api.governance.audit tail audit.jsonl -n 20 --follow
  python -m inferflux_api.governance.audit search audit.jsonl --event refused --since 1h
  python -m inferflux_api.governance.audit verify audit.jsonl --public-key audit.jsonl.pub

exit status of verify: 0 intact, 1 changed or records missing, 2 not readable, 5 the end is missing
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (OSError, ConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def _tail(arguments: argparse.Namespace) -> int:
    entries = last_entries(files_of([arguments.file]), arguments.count)
    _print(entries, as_json=arguments.json)
    if arguments.follow:
        seq = entries[-1].record.seq if entries else 0
        _print(follow(arguments.file, seq), as_json=arguments.json)
    return 0


def _search(arguments: argparse.Namespace) -> int:
    query = Query(
        subject=arguments.subject,
        tenant=arguments.tenant,
        model=arguments.model,
        event=arguments.event,
        since=arguments.since,
        until=arguments.until,
    )
    _print(matching(files_of(arguments.file), query), as_json=arguments.json)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    report = Verification(Verifier(arguments.public_key)).run(files_of(arguments.file))
    if arguments.json:
        sys.stdout.write(f"{msgspec.json.encode(report).decode()}\n")
    else:
        sys.stdout.write(_described(report))
    return _STATUSES[report.status]


def _described(report: Report) -> str:
    lines = [f"{report.status}: {report.records} records, {report.first} to {report.last}"]
    if report.problem:
        place = f"{report.file}:{report.line}" if report.line else report.file
        lines.append(f"{place}: {report.problem}")
    unsigned = report.last - report.signed
    tail = f"; {unsigned} after it are not signed yet" if unsigned else ""
    lines.append(f"signed up to record {report.signed}{tail}")
    return "\n".join(lines) + "\n"


def _print(entries: Iterable[Entry], *, as_json: bool) -> None:
    for entry in entries:
        line = entry.line.decode() if as_json else _as_text(entry)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _as_text(entry: Entry) -> str:
    record = entry.record
    when = datetime.fromtimestamp(record.time, UTC).isoformat(timespec="milliseconds")
    fields = msgspec.to_builtins(record)
    rest = " ".join(f"{k}={_quoted(v)}" for k, v in fields.items() if k not in _LEFT_OUT)
    return f"{record.seq} {when} {record.event} {rest}".rstrip()


def _quoted(value: object) -> str:
    """A value in which nothing can take over a terminal or look like another field."""
    text = str(value)
    return text if re.fullmatch(r"[\w./:@+-]+", text, re.ASCII) else ascii(text)


def _time(text: str) -> float:
    """Seconds since 1970, of a date, or of how long ago."""
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        return time.time() - int(match[1]) * _UNITS[match[2]]
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a date such as 2026-11-23T14:00 nor an age such as 90m or 2d"
        ) from None
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_api.governance.audit",
        description="Look into an audit log, or verify it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON, a line each")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    tail = commands.add_parser("tail", parents=[common], help="print the last records")
    tail.set_defaults(run=_tail)
    tail.add_argument("file", type=Path, help="the log")
    tail.add_argument("-n", dest="count", type=_count, default=10, help="how many (10)")
    tail.add_argument("--follow", action="store_true", help="go on as they are written")

    search = commands.add_parser("search", parents=[common], help="print records that match")
    search.set_defaults(run=_search)
    search.add_argument("file", type=Path, nargs="+", help="the log, or some of its files")
    for name in ("subject", "tenant", "model", "event"):
        search.add_argument(f"--{name}", default="")
    search.add_argument("--since", type=_time, default=0.0, help="a date, or an age such as 2d")
    search.add_argument("--until", type=_time, default=float("inf"), help="the same")

    verify = commands.add_parser("verify", parents=[common], help="say whether it is whole")
    verify.set_defaults(run=_verify)
    verify.add_argument("file", type=Path, nargs="+", help="the log, or all its files in order")
    verify.add_argument("--public-key", type=Path, action="append", required=True, metavar="FILE")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of records")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
