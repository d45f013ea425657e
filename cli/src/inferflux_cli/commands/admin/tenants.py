"""`inferctl admin tenants`: what holds for all callers of a tenant."""

from __future__ import annotations

from typing import Any, Final

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.commands.admin.options import (
    LIMITS,
    changes,
    flag,
    limit_options,
    names,
    none_option,
    one_action,
    with_limits,
)
from inferflux_cli.commands.admin.server import (
    administration,
    entries,
    named,
    segment,
    with_consent,
)
from inferflux_cli.commands.admin.views import show_tenants
from inferflux_cli.settings import connection_options

__all__ = ["tenants"]

_FIELDS: Final = ("disabled", "models", *LIMITS, "none")
_TAKES: Final = {"list": (), "set": _FIELDS, "remove": ("yes",)}


@click.command(
    epilog=examples(
        "inferctl admin tenants --list",
        "inferctl admin tenants --set acme --requests-per-minute 600 --models llama-3.2-1b",
        "inferctl admin tenants --set acme --disable",
        "inferctl admin tenants --set acme --none models",
        "inferctl admin tenants --remove acme",
    )
)
@flag("list", "List those of which the policy says something.")
@click.option("--set", metavar="NAME", help="Change what holds for a tenant.")
@click.option("--remove", metavar="NAME", help="Forget what is said of one.")
@click.option(
    "--disable/--enable", "disabled", default=None, help="Turn its callers away, or let them in."
)
@click.option("--models", type=names, metavar="IDS", help="The only models that it may use.")
@limit_options()
@none_option("models")
@flag("yes", "Do not ask.")
@connection_options
def tenants(**options: Any) -> None:
    """Tenants: what all their callers together may do.

    Limits given here come before those of `rate-limit`.
    """
    action = one_action(_TAKES, options)
    if action == "list":
        with administration() as admin:
            found = admin.get("tenants")
            admin.output.json(found)
            show_tenants(admin.output, entries(found))
    elif action == "set":
        _set(options["set"], changes({name: options[name] for name in _FIELDS}))
    else:
        _remove(options["remove"], yes=bool(options["yes"]))


def _set(name: str, said: dict[str, Any]) -> None:
    if not said:
        raise click.UsageError("say what is to change.")
    path = f"tenants/{segment(name)}"
    with administration() as admin:
        seen = admin.get("tenants")
        before = next((t for t in entries(seen) if t.get("name") == name), None)
        body = with_limits(said, before or {})
        admin.output.json(admin.change("POST", path, body, seen=seen))
        admin.output.text(f"{name} {'changed' if before else 'added'}\n")


def _remove(name: str, *, yes: bool) -> None:
    with with_consent(f"remove {name}", yes=yes) as admin:
        seen = admin.get("tenants")
        state = (
            " It is disabled, and would be let in."
            if named(seen, name, "tenant").get("disabled")
            else ""
        )
        question = f"Forget what is said of the tenant {name}?{state}"
        admin.remove(f"tenants/{segment(name)}", name, question, yes=yes, seen=seen)
