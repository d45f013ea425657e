"""`python -m inferflux_core.plugins`: list, describe and check plugins."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import msgspec

from inferflux_core.errors import PluginError
from inferflux_core.plugins.kinds import KINDS, KNOWN_PLUGINS, Kind
from inferflux_core.plugins.loading import install_hint
from inferflux_core.plugins.manager import PluginManager
from inferflux_core.specs import BackendSpec

_EXAMPLES: Final = """\
examples:
  python -m inferflux_core.plugins list
  python -m inferflux_core.plugins info cpu
  python -m inferflux_core.plugins check pii --kind guardrail --json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0, or 1 if a plugin is missing, broken or cannot run on this machine.
    """
    arguments = _parser().parse_args(argv)
    manager = PluginManager()
    try:
        if arguments.command == "list":
            _write(_list(manager, arguments.kind), as_json=arguments.json)
            return 0
        kind = _kind_of(manager, arguments.name, arguments.kind)
        if arguments.command == "info":
            _write(_info(manager, kind, arguments.name), as_json=arguments.json)
            return 0
        verdict = _check(manager, kind, arguments.name)
    except PluginError as error:
        if not arguments.json:
            sys.stderr.write(f"{error}\n")
            return 1
        verdict = {"ok": False, "reason": error.message, "hint": error.hint}
    _write(verdict, as_json=arguments.json)
    return 0 if verdict["ok"] else 1


def _list(manager: PluginManager, kind: str | None) -> list[dict[str, Any]]:
    return [asdict(row) for row in manager.report() if kind in (None, row.kind)]


def _info(manager: PluginManager, kind: Kind[Any], name: str) -> dict[str, Any]:
    spec = manager.load(kind, name)
    provider = next(
        row for row in manager.report() if (row.kind, row.name) == (kind.name, spec.name)
    )
    info = {
        "kind": kind.name,
        "name": spec.name,
        "summary": spec.summary,
        "distribution": provider.distribution,
        "version": provider.version,
        "api_version": spec.api_version,
        "config_schema": msgspec.json.schema(spec.config_type),
    }
    if isinstance(spec, BackendSpec):
        info["capabilities"] = sorted(spec.capabilities)
    return info


def _check(manager: PluginManager, kind: Kind[Any], name: str) -> dict[str, Any]:
    spec = manager.load(kind, name)
    verdict: dict[str, Any] = {"kind": kind.name, "name": name, "ok": True, "reason": "loads"}
    if isinstance(spec, BackendSpec):
        probe = manager.probe(spec)
        verdict.update(ok=probe.available, reason=probe.reason, devices=list(probe.devices))
    return verdict


def _kind_of(manager: PluginManager, name: str, given: str | None) -> Kind[Any]:
    """The kind a name belongs to, unless it was given."""
    if given is not None:
        return KINDS[given]
    found = [kind for kind in KINDS.values() if name in manager.names(kind)]
    if len(found) == 1:
        return found[0]
    if found:
        kinds = ", ".join(kind.name for kind in found)
        raise PluginError(f"'{name}' is the name of several plugins: {kinds}", hint="add --kind")
    # A name of this project's own plugins belongs to one kind.
    kind = next((kind for kind in KINDS if (kind, name) in KNOWN_PLUGINS), "")
    raise PluginError(f"no plugin '{name}' is installed", hint=install_hint(kind, name))


def _write(result: Any, *, as_json: bool) -> None:
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    elif isinstance(result, list):
        text = _table(result)
    else:
        text = "\n".join(f"{key + ':':<15}{_plain(value)}" for key, value in result.items())
    sys.stdout.write(f"{text}\n")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return msgspec.json.encode(value).decode() if isinstance(value, Mapping) else str(value)


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    columns = ("kind", "name", "distribution", "version", "status", "detail")
    lines = [[column.upper() for column in columns]]
    lines += [[row[column] or "-" for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferflux_core.plugins",
        description="The plugins that are installed beside this server.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--kind", choices=KINDS, help="only this kind of plugin")
    common.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", parents=[common], help="what is installed; imports no plugin")
    info = commands.add_parser("info", parents=[common], help="load one plugin and describe it")
    check = commands.add_parser(
        "check", parents=[common], help="load one plugin; for a backend, ask if it can run here"
    )
    for command in (info, check):
        command.add_argument("name", metavar="NAME", help="the name used in configuration")
    return parser


if __name__ == "__main__":
    sys.exit(main())
