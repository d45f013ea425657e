"""`inferctl models`: what the server can run."""

from __future__ import annotations

import rich_click as click

from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings

__all__ = ["models"]


@click.group(epilog=examples("inferctl models list", "inferctl models show llama-3.2-1b"))
@connection_options
def models() -> None:
    """Show the models of the server."""


@models.command("list", epilog=examples("inferctl models list", "inferctl models list --json"))
@connection_options
def list_models() -> None:
    """List the models, one a line."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        found = client.models()
    output.json({"object": "list", "data": found})
    output.table(("model", "owner"), [(m.get("id"), m.get("owned_by")) for m in found])


@models.command("show", epilog=examples("inferctl models show llama-3.2-1b"))
@click.argument("name", metavar="ID")
@connection_options
def show_model(*, name: str) -> None:
    """Show everything the server says about one model."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        found = client.model(name)
    output.json(found)
    output.table(("", ""), found.items())
