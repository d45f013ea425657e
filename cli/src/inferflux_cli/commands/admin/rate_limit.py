"""`inferctl admin rate-limit`: how much everybody may ask for."""

from __future__ import annotations

from typing import Any

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.commands.admin.options import LIMITS, changes, flag, limit_options, none_option
from inferflux_cli.commands.admin.server import administration
from inferflux_cli.commands.admin.views import show_limits
from inferflux_cli.settings import connection_options
from inferflux_cli.shapes import as_object

__all__ = ["rate_limit"]

_FIRST = next(iter(LIMITS))


@click.command(
    "rate-limit",
    epilog=examples(
        "inferctl admin rate-limit",
        "inferctl admin rate-limit --set 200",
        "inferctl admin rate-limit --tokens-per-day 1000000 --none concurrent",
        "inferctl admin rate-limit --per-key --set 20",
        "inferctl admin rate-limit --reset",
    ),
)
@click.option(
    "--set", _FIRST, type=click.IntRange(min=1), metavar="N", help="Requests in any 60 seconds."
)
@limit_options(_FIRST)
@none_option()
@flag("per-key", "All this for each API key, rather than for each tenant.")
@flag("reset", "Back to the configuration of the server.")
@connection_options
def rate_limit(*, per_key: bool | None, reset: bool | None, **options: Any) -> None:
    """Show the limits of everybody, or change them.

    Those of single tenants and keys are set with `tenants` and `api-keys`.
    """
    said = changes(options)
    if reset and (said or per_key):
        raise click.UsageError("--reset goes alone.")
    if per_key and not said:
        raise click.UsageError("say which limits are to change.")
    with administration() as admin:
        if reset:
            found = admin.change("DELETE", "rate_limit")
        elif per_key:
            seen = admin.get("rate_limit")
            merged = as_object(seen.get("per_key")) | said
            found = admin.change("POST", "rate_limit", {"per_key": merged}, seen=seen)
        elif said:
            found = admin.change("POST", "rate_limit", said)
        else:
            found = admin.get("rate_limit")
        admin.output.json(found)
        show_limits(admin.output, found)
