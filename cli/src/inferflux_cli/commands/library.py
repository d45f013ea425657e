"""`inferctl models pull`, `cp` and `rm`: which models the server has."""

from __future__ import annotations

from typing import Any

import rich_click as click

from inferflux_cli.asking import can_ask, confirm
from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.errors import ApiError, CliError
from inferflux_cli.progress import Transfer, transfer
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings
from inferflux_cli.shapes import as_text

__all__ = ["copy_model", "pull_model", "remove_model"]


@click.command(
    "pull",
    epilog=examples(
        "inferctl models pull llama3.2",
        "inferctl models pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
    ),
)
@click.argument("name", metavar="NAME")
@connection_options
def pull_model(*, name: str) -> None:
    """Have the server fetch a model; needs a key with the scope models:write.

    Ctrl-C stops it; what has come so far is kept, and used by the next pull.
    """
    settings = current_settings()
    output = Output(as_json=settings.json)
    status = ""
    with (
        Client(settings) as client,
        transfer() as show,
        client.stream("/api/pull", {"model": name}) as steps,
    ):
        for step in steps:
            output.json(step)
            status = _note(output, show, step, status)
            if status == "success":
                break
    output.text(f"{name} pulled\n")


def _note(output: Output, show: Transfer | None, step: dict[str, Any], before: str) -> str:
    """Tell of a step, and return its status."""
    status = as_text(step.get("status"))
    total, completed = step.get("total"), step.get("completed", 0)
    if show is None:
        if status != before:
            output.note(status)
    elif isinstance(total, int) and isinstance(completed, int):
        show(status, completed, total)
    return status


@click.command("cp", epilog=examples("inferctl models cp llama3.2 assistant"))
@click.argument("source", metavar="NAME")
@click.argument("destination", metavar="NEW_NAME")
@connection_options
def copy_model(*, source: str, destination: str) -> None:
    """Serve a model under another name, too; needs a key with the scope models:write."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        try:
            client.post_text("/api/copy", {"source": source, "destination": destination})
        except ApiError as error:
            raise _with_hint(error) from None
    output.json({"model": destination, "source": source, "status": "copied"})
    output.text(f"{source} copied to {destination}\n")


@click.command(
    "rm", epilog=examples("inferctl models rm assistant", "inferctl models rm assistant --yes")
)
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask.")
@connection_options
def remove_model(*, name: str, yes: bool) -> None:
    """Have the server delete a model; needs a key with the scope models:write."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    if not yes and not can_ask(output):
        raise click.UsageError(f"nobody is here to confirm it: give --yes to delete {name}.")
    if not yes and not confirm(f"Delete {name} from {settings.url}?"):
        raise CliError(f"{name} was not deleted")
    with Client(settings) as client:
        try:
            client.delete_text("/api/delete", {"model": name})
        except ApiError as error:
            raise _with_hint(error) from None
    output.json({"model": name, "status": "deleted"})
    output.text(f"{name} deleted\n")


def _with_hint(error: ApiError) -> ApiError:
    if error.status == 404:
        error.hint = error.hint or "see what there is with: inferctl models list"
    return error
