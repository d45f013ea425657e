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
        schema = msgspec.json.format(msgspec.json.encode(json_schema()), indent=2)
        sys.stdout.write(f"{schema.decode()}\n")
        return 0
    try:
        load_config(arguments.path, os.environ, arguments.override)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("OK\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_core.config",
        description="The configuration of the server.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON Schema of the configuration file")
    check = commands.add_parser(
        "check", help="check a file as the server would read it, INFERFLUX_* variables included"
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
