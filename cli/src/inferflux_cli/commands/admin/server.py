"""The server's API for administrators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import rich_click as click

from inferflux_cli.asking import can_ask, confirm
from inferflux_cli.client import Client
from inferflux_cli.errors import ApiError, CliError
from inferflux_cli.render import Output
from inferflux_cli.settings import current_settings
from inferflux_cli.shapes import as_objects

__all__ = ["Admin", "administration", "entries", "generation", "named", "segment", "with_consent"]

_NO_API: Final = "does the address belong to an InferFlux server that has this API?"
_HINTS: Final = {
    "precondition_failed": "somebody else changed the policy meanwhile: look at it again, then"
    " repeat the command",
    "policy_unavailable": "nothing is changed without a policy store; the server's log says what"
    " is wrong with it",
}


class Admin(NamedTuple):
    """Reads and changes the policy. The methods raise what those of `Client` do."""

    client: Client
    output: Output

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Return the answer to a GET of `/v1/admin/PATH`; a query of None is left out."""
        text = urlencode({name: value for name, value in query.items() if value is not None})
        with _hints():
            return self.client.get_json(f"/v1/admin/{path}" + (f"?{text}" if text else ""))

    def change(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        seen: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Change something and return the answer.

        Args:
            method: POST or DELETE.
            path: below `/v1/admin`.
            body: of the request.
            seen: an earlier answer on which this was decided: it must not be outdated.
        """
        expected = None if seen is None else generation(seen)
        with _hints():
            return self.client.change(method, f"/v1/admin/{path}", body, expected)

    def remove(
        self,
        path: str,
        name: str,
        question: str,
        *,
        yes: bool,
        seen: dict[str, Any] | None = None,
    ) -> None:
        """Delete something, after asking unless `yes`, and tell of it; see `change`.

        Raises:
            CliError: the answer is no.
        """
        if not yes and not confirm(question):
            raise CliError(f"{name} was not removed")
        self.output.json(self.change("DELETE", path, seen=seen))
        self.output.text(f"{name} removed\n")


@contextmanager
def administration() -> Iterator[Admin]:
    """Yield the server that the running command is for."""
    settings = current_settings()
    with Client(settings) as client:
        yield Admin(client, Output(as_json=settings.json))


@contextmanager
def with_consent(what: str, *, yes: bool) -> Iterator[Admin]:
    """Yield the server for something that has to be confirmed.

    Raises:
        click.UsageError: it is not, and nobody can be asked.
    """
    if not yes and not can_ask(Output(as_json=current_settings().json)):
        raise click.UsageError(f"nobody is here to confirm it: give --yes to {what}.")
    with administration() as admin:
        yield admin


def entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a list holds."""
    return as_objects(answer.get("data"))


def named(answer: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    """Return the entry of a list that can be changed and has this name.

    Raises:
        CliError: there is none.
    """
    found = [entry for entry in entries(answer) if entry.get("name") == name]
    for entry in found:
        if entry.get("source") != "configuration":
            return entry
    if found:
        raise CliError(
            f"the {kind} {name} is one of the server's configuration", hint="change it there"
        )
    command = f"{kind.lower().replace(' ', '-')}s"
    raise CliError(
        f"there is no {kind} {name}",
        hint=f"see what there is with: inferctl admin {command} --list",
    )


def segment(name: str) -> str:
    """Return a name as a part of a path.

    Raises:
        click.UsageError: it is empty.
    """
    if not name:
        raise click.UsageError("a name cannot be empty.")
    # As it is, `..` would lead elsewhere.
    return quote(name, safe="").replace(".", "%2E")


def generation(answer: dict[str, Any]) -> int:
    """Return the generation of the policy that an answer shows.

    Raises:
        CliError: it names none.
    """
    number = answer.get("generation")
    if not isinstance(number, int):
        raise CliError("the server's answer names no generation of the policy", hint=_NO_API)
    return number


@contextmanager
def _hints() -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        if error.status == 404 and not error.body:
            error.hint = _NO_API
        error.hint = error.hint or _HINTS.get(str(error.body.get("code")))
        raise
