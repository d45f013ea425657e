"""`inferctl admin api-keys`: who may come in."""

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
from inferflux_cli.commands.admin.times import expiry
from inferflux_cli.commands.admin.views import joined, show_keys
from inferflux_cli.errors import CliError
from inferflux_cli.settings import connection_options

__all__ = ["api_keys"]

_FIELDS: Final = ("scopes", "roles", "tenant", "models", "expires", *LIMITS)
_TAKES: Final = {"list": (), "add": _FIELDS, "set": (*_FIELDS, "none"), "remove": ("yes",)}
_EMPTY: Final[dict[str, list[str]]] = {"scopes": [], "roles": []}


@click.command(
    "api-keys",
    epilog=examples(
        "inferctl admin api-keys --list",
        "inferctl admin api-keys --add app --scopes generate,read --expires 90d",
        "inferctl admin api-keys --add ci --roles operator --tenant acme --requests-per-minute 60",
        "inferctl admin api-keys --set app --models llama-3.2-1b --none expires",
        "inferctl admin api-keys --remove app",
    ),
)
@flag("list", "List them, one a line; never what they are.")
@click.option("--add", metavar="NAME", help="Make a key and print it, this once.")
@click.option("--set", metavar="ID_OR_NAME", help="Change what a key may do.")
@click.option("--remove", metavar="ID_OR_NAME", help="Take a key back.")
@click.option("--scopes", type=names, metavar="SCOPES", help="All that it may do: generate,read")
@click.option("--roles", type=names, metavar="ROLES", help="All its roles.")
@click.option("--tenant", metavar="NAME", help="Whose it is. [default: default]")
@click.option("--models", type=names, metavar="IDS", help="The only models that it may use.")
@click.option(
    "--expires",
    type=expiry,
    metavar="TIME",
    help="A date such as 2027-01-01 (UTC), or in 30d, 12h.",
)
@limit_options()
@none_option("models", "expires", "scopes", "roles")
@flag("yes", "Do not ask.")
@connection_options
def api_keys(**options: Any) -> None:
    """API keys: list, make, change and take back; the next request feels it.

    A new key stands alone on stdout, and nowhere else: the server keeps a hash.
    """
    action = one_action(_TAKES, options)
    if action == "list":
        with administration() as admin:
            found = admin.get("api_keys")
            admin.output.json(found)
            show_keys(admin.output, entries(found))
    elif action == "add":
        _add(options["add"], _said(options))
    elif action == "set":
        _set(options["set"], _said(options))
    else:
        _remove(options["remove"], yes=bool(options["yes"]))


def _said(options: dict[str, Any]) -> dict[str, Any]:
    said = changes({name: options[name] for name in (*_FIELDS, "none")})
    if "expires" in said:
        said |= said.pop("expires") or {"expires_at": None}
    return {name: _EMPTY.get(name) if value is None else value for name, value in said.items()}


def _add(name: str, said: dict[str, Any]) -> None:
    with administration() as admin:
        made = admin.change("POST", "api_keys", {"name": name, **with_limits(said, {})})
        admin.output.json(made)
        if not isinstance(made.get("value"), str):
            raise CliError("the server's answer holds no key")
        admin.output.text(f"{made['value']}\n")
        admin.output.note(
            f"the key {name} ({made.get('id')}) is shown only this once: keep it safe"
        )


def _set(wanted: str, said: dict[str, Any]) -> None:
    if not said:
        raise click.UsageError("say what is to change.")
    with administration() as admin:
        seen = admin.get("api_keys")
        key = _find(seen, wanted)
        body = with_limits(said, key)
        admin.output.json(admin.change("POST", _path(key), body, seen=seen))
        admin.output.text(f"{wanted} changed\n")


def _remove(wanted: str, *, yes: bool) -> None:
    with with_consent(f"remove {wanted}", yes=yes) as admin:
        seen = admin.get("api_keys")
        key = _find(seen, wanted)
        may = ", ".join(filter(None, (joined(key.get("scopes")), joined(key.get("roles")))))
        about = f"{key.get('id')}: {may}; {key.get('tenant')}"
        question = f"Take back the key {key.get('name')} ({about})?"
        # Its id is nobody else's, and taking it back must not wait for others to stop changing things.
        admin.remove(_path(key), wanted, question, yes=yes)


def _find(seen: dict[str, Any], wanted: str) -> dict[str, Any]:
    """The key of the policy with this id or name.

    Raises:
        CliError: there is none, or one has the id and another one the name.
    """
    by_id = [key for key in entries(seen) if key.get("id") == wanted]
    if not by_id:
        return named(seen, wanted, "API key")
    if any(key.get("name") == wanted and key.get("id") != wanted for key in entries(seen)):
        raise CliError(
            f"{wanted} is the id of a key and the name of another",
            hint="give the id of the other one, or remove that first",
        )
    return by_id[0]


def _path(key: dict[str, Any]) -> str:
    return f"api_keys/{segment(str(key.get('id') or ''))}"
