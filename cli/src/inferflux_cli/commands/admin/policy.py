"""`inferctl admin policy`: what is in force, how it came about, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import rich_click as click

from inferflux_cli.asking import confirm
from inferflux_cli.commands._help import examples
from inferflux_cli.commands.admin.options import flag, one_action
from inferflux_cli.commands.admin.server import (
    Admin,
    administration,
    entries,
    generation,
    with_consent,
)
from inferflux_cli.commands.admin.views import (
    change_text,
    joined,
    show_keys,
    show_limits,
    show_roles,
    show_tenants,
)
from inferflux_cli.errors import CliError
from inferflux_cli.settings import connection_options
from inferflux_cli.shapes import as_object, as_objects

__all__ = ["generations", "policy"]

_TAKES: Final = {"history": (), "show": (), "rollback": ("yes",)}
_NUMBER: Final = click.IntRange(min=1)


@click.command(
    epilog=examples(
        "inferctl admin policy",
        "inferctl admin policy --history",
        "inferctl admin policy --show 7",
        "inferctl admin policy --rollback 7",
    )
)
@flag("history", "Every generation that is kept, newest first.")
@click.option("--show", type=_NUMBER, metavar="N", help="What generation N said.")
@click.option(
    "--rollback",
    type=_NUMBER,
    metavar="N",
    help="Roles, tenants, limits and guardrails as of generation N; API keys stay as they are.",
)
@flag("yes", "Do not ask.")
@connection_options
def policy(**options: Any) -> None:
    """The policy: what is in force, what was, and back to that."""
    action = one_action(_TAKES, options, default="current")
    if action == "rollback":
        _roll_back(options["rollback"], yes=bool(options["yes"]))
        return
    with administration() as admin:
        if action == "history":
            _show_history(admin)
        elif action == "show":
            _show_generation(admin, options["show"])
        else:
            _show_policy(admin, admin.get("policy"))


@click.command(epilog=examples("inferctl admin generations", "inferctl admin generations --json"))
@connection_options
def generations() -> None:
    """The same as `inferctl admin policy --history`."""
    with administration() as admin:
        _show_history(admin)


def _show_policy(admin: Admin, found: dict[str, Any]) -> None:
    admin.output.json(found)
    admin.output.table(("", ""), _facts(found))


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, object]]:
    yield "generation", found.get("generation")
    yield from zip(("made", "by", "what"), change_text(found), strict=True)
    yield "kept in", found.get("location")
    yield "encrypted", "yes" if found.get("sealed") else "no"
    age = found.get("age_seconds")
    yield "looked at", f"{age:.1f} s ago" if isinstance(age, int | float) else None
    for field in ("api_keys", "roles", "tenants"):
        yield field.replace("api_", "API "), found.get(field)


def _show_history(admin: Admin) -> None:
    found = admin.get("policy/generations")
    admin.output.json(found)
    rows = [
        (g.get("generation"), "in force" if g.get("current") else None, *change_text(g))
        for g in entries(found)
    ]
    admin.output.table(("generation", "", "made", "by", "what"), rows)


def _show_generation(admin: Admin, number: int) -> None:
    found = admin.get(f"policy/generations/{number}")
    output = admin.output
    output.json(found)
    made, by, what = change_text(found)
    facts = (("generation", number), ("made", made), ("by", by), ("what", what))
    output.table(("", ""), facts)
    output.text("\nAPI keys\n")
    show_keys(output, as_objects(found.get("api_keys")))
    output.text("\nroles\n")
    show_roles(output, as_objects(found.get("roles")))
    output.text("\ntenants\n")
    show_tenants(output, as_objects(found.get("tenants")))
    output.text("\n")
    if limits := as_object(found.get("rate_limit")):
        show_limits(output, {"source": "policy", **limits})
    else:
        output.text("limits as configured\n")
    output.text("\nguardrails\n")
    output.table(("", ""), _guardrails(as_object(found.get("guardrails"))))


def _guardrails(said: dict[str, Any]) -> Iterator[tuple[str, object]]:
    words = said.get("blocklist")
    yield "run, in this order", joined(said.get("enabled"), none="none") or "as configured"
    yield "blocked words", len(words) if isinstance(words, list) else "as configured"
    yield "options for", joined(list(as_object(said.get("options"))))


def _roll_back(number: int, *, yes: bool) -> None:
    with with_consent(f"go back to generation {number}", yes=yes) as admin:
        seen = admin.get("policy")
        _, by, what = change_text(admin.get(f"policy/generations/{number}"))
        question = f"Go back from generation {generation(seen)} to {number} ({what}, by {by})? API keys stay."
        if not yes and not confirm(question):
            raise CliError("the policy was not changed")
        found = admin.change("POST", "policy/rollback", {"generation": number}, seen=seen)
        admin.output.json(found)
        admin.output.text(
            f"as generation {number} again, API keys aside; this is generation {generation(found)}\n"
        )
