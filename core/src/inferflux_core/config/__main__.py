"""`python -m inferflux_core.config`: print the schema, or check a file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from inferflux_core.config import json_schema, load_config
from inferflux_core.errors import ConfigError

_EXAMPLES = """\
examples:
  python -m inferflux_core.config schema > server.schema.json
  python -m inferflux_core.config check config/server.yaml
  python -m inferflux_core.config check config/server.yaml -o server.port=9000
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, or 2 if the configuration is refused."""
    arguments = _parser().parse_args(argv)
    if arguments.command == "schema":
        _write_json(json_schema())
        return 0
    try:
        load_config(arguments.path, os.environ, arguments.override)
    except ConfigError as error:
        if arguments.json:
            _write_json({"ok": False, "error": error.message, "hint": error.hint})
        else:
            sys.stderr.write(f"{error}\n")
        return 2
    if arguments.json:
        _write_json({"ok": True})
    else:
        sys.stdout.write("OK\n")
    return 0


def _write_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_core.config",
        description="The configuration of the server.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    commands.add_parser(
        "schema", parents=[common], help="print the JSON Schema of the configuration file"
    )
    check = commands.add_parser(
        "check",
        parents=[common],
        help="check a file as the server would read it, INFERFLUX_* variables included",
    )
    check.add_argument("path", type=Path, help="the YAML file")
    check.add_argument(
        "-o",
        dest="override",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="set one key, as the server's flag does; may be repeated",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
