"""`inferctl admin roles`: names for several scopes."""

from __future__ import annotations

from typing import Any, Final

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.commands.admin.options import flag, names, one_action
from inferflux_cli.commands.admin.server import (
    administration,
    entries,
    named,
    segment,
    with_consent,
)
from inferflux_cli.commands.admin.views import joined, show_roles
from inferflux_cli.settings import connection_options

__all__ = ["roles"]

_TAKES: Final = {"list": (), "set": ("scopes",), "remove": ("yes",)}


@click.command(
    epilog=examples(
        "inferctl admin roles --list",
        "inferctl admin roles --set operator --scopes read,models:write,adapters:write",
        "inferctl admin roles --remove operator",
    )
)
@flag("list", "List them, one a line.")
@click.option("--set", metavar="NAME", help="Make a role, or change what it stands for.")
@click.option("--remove", metavar="NAME", help="Forget a role that no key has.")
@click.option("--scopes", type=names, metavar="SCOPES", help="All that it is to stand for.")
@flag("yes", "Do not ask.")
@connection_options
def roles(**options: Any) -> None:
    """Roles: names for several scopes, which API keys may have."""
    action = one_action(_TAKES, options)
    if action == "list":
        with administration() as admin:
            found = admin.get("roles")
            admin.output.json(found)
            show_roles(admin.output, entries(found))
    elif action == "set":
        _set(options["set"], options["scopes"])
    else:
        _remove(options["remove"], yes=bool(options["yes"]))


def _set(name: str, scopes: list[str] | None) -> None:
    if scopes is None:
        raise click.UsageError("say what it stands for, with --scopes.")
    path = f"roles/{segment(name)}"
    with administration() as admin:
        seen = admin.get("roles")
        admin.output.json(admin.change("POST", path, {"scopes": scopes}, seen=seen))
        is_new = all(role.get("name") != name for role in entries(seen))
        admin.output.text(f"{name} {'added' if is_new else 'changed'}\n")


def _remove(name: str, *, yes: bool) -> None:
    with with_consent(f"remove {name}", yes=yes) as admin:
        seen = admin.get("roles")
        scopes = joined(named(seen, name, "role").get("scopes"), none="no scopes")
        question = f"Remove the role {name} ({scopes})?"
        admin.remove(f"roles/{segment(name)}", name, question, yes=yes, seen=seen)
