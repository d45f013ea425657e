"""`inferctl admin guardrails`: which run, in which order, and which words are blocked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.commands.admin.options import flag, listed, names, one_action
from inferflux_cli.commands.admin.server import Admin, administration
from inferflux_cli.commands.admin.views import show_guardrails
from inferflux_cli.errors import CliError
from inferflux_cli.files import read_text
from inferflux_cli.settings import connection_options

__all__ = ["guardrails"]

_TAKES: Final = dict.fromkeys(("list", "set", "file", "enable", "none", "reset"), ())
_EMPTY: Final = {"words": "blocklist", "enabled": "enabled"}


@click.command(
    epilog=examples(
        "inferctl admin guardrails --list",
        "inferctl admin guardrails --set secret,pii",
        "inferctl admin guardrails --file words.txt",
        "inferctl admin guardrails --set - < words.txt",
        "inferctl admin guardrails --enable blocklist,pii",
        "inferctl admin guardrails --none words",
        "inferctl admin guardrails --reset",
    )
)
@flag("list", "Show which run, and how many words are blocked.")
@click.option(
    "--set", metavar="WORDS", help="Block these words and no others; - reads them from stdin."
)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The same, a word or phrase a line.",
)
@click.option("--enable", type=names, metavar="NAMES", help="Run these guardrails, in this order.")
@click.option(
    "--none", type=click.Choice(list(_EMPTY)), help="Block no words, or run no guardrail."
)
@flag("reset", "Back to the configuration of the server.")
@connection_options
def guardrails(**options: Any) -> None:
    """Guardrails: show them, or change which run and which words are blocked.

    Each call replaces a whole list. Requests that run already keep what they began with.
    """
    action = one_action(_TAKES, options)
    body = _body(action, options[action])
    with administration() as admin:
        if action == "list":
            found = admin.get("guardrails")
        elif body is None:
            found = admin.change("DELETE", "guardrails")
        else:
            found = admin.change("POST", "guardrails", body, seen=admin.get("guardrails"))
        admin.output.json(found)
        show_guardrails(admin.output, found)
        if action in ("set", "file"):
            _explain(admin, found)


def _body(action: str, value: Any) -> dict[str, list[str]] | None:
    if action == "none":
        return {_EMPTY[value]: []}
    if action == "enable":
        return {"enabled": value}
    if action in ("set", "file"):
        return {"blocklist": _words(action, value)}
    return None


def _words(action: str, value: Any) -> list[str]:
    if action == "file":
        words = listed(_lines(read_text(value)))
    else:
        words = listed(_lines(_stdin()) if value == "-" else value.split(","))
    if not words:
        # A variable of a script that happens to be empty must not open the door.
        raise click.UsageError("there are no words: to block none, give --none words.")
    return words


def _lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").splitlines()


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except ValueError as error:
        raise CliError("what stdin holds is not text in UTF-8") from error


def _explain(admin: Admin, found: dict[str, Any]) -> None:
    """Help those who took words for guardrails."""
    words, installed, enabled = (found.get(k) for k in ("blocklist", "available", "enabled"))
    if isinstance(words, list) and isinstance(installed, list) and isinstance(enabled, list):
        for name in (n for n in installed if n in words and n not in enabled):
            admin.output.note(
                f"note: {name} is a word now; to run the guardrail {name}, use --enable"
            )
