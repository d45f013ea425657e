"""`inferctl models` and `inferctl tune`: what the server can run, and what it has in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import rich_click as click

from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.commands.library import copy_model, pull_model, remove_model
from inferflux_cli.commands.signing import make_key, sign_model, verify_model
from inferflux_cli.errors import ApiError
from inferflux_cli.progress import progress
from inferflux_cli.render import Output, duration, size
from inferflux_cli.settings import connection_options, current_settings

__all__ = ["models", "tune"]

_NOT_IN_MEMORY = (None, "unloaded", "loading", "failed")
_COLUMNS = {
    "id": "model",
    "owned_by": "owner",
    "state": "state",
    "backend": "backend",
    "load": "load",
    "parent": "adapter of",
}
_ABOUT = (
    *("capabilities", "details", "parameters", "system"),
    *("template", "license", "model_info"),
)
_LONGEST = 80
_TIMES = ("created", "last_used", "expires_at")


@click.group(
    epilog=examples(
        "inferctl models list",
        "inferctl models show llama-3.2-1b",
        "inferctl models ps",
        "inferctl models unload llama-3.2-1b --drain",
        "inferctl models pull llama3.2",
        "inferctl models rm llama3.2",
        "inferctl models sign model.gguf --key release.key",
    )
)
@connection_options
def models() -> None:
    """Show the models of the server, fetch and delete them, load and unload them; sign and verify files."""


for _command in (pull_model, copy_model, remove_model, make_key, sign_model, verify_model):
    models.add_command(_command)


@models.command("list", epilog=examples("inferctl models list", "inferctl models list --json"))
@connection_options
def list_models() -> None:
    """List the models and adapters, one a line."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        found = client.models()
    output.json({"object": "list", "data": found})
    # Servers of other makes say less about their models.
    shown = [key for key in _COLUMNS if any(key in model for model in found)]
    output.table(
        [_COLUMNS[key] for key in shown], [[model.get(key) for key in shown] for model in found]
    )


@models.command("ps", epilog=examples("inferctl models ps", "inferctl models ps --json"))
@connection_options
def list_loaded() -> None:
    """List the models that are in memory: their size, who uses them, and how long they stay."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        found = [
            model
            for model in client.models()
            if model.get("state") not in _NOT_IN_MEMORY and not model.get("parent")
        ]
    output.json({"object": "list", "data": found})
    now = time.time()
    output.table(
        ("model", "state", "memory", "device", "in use", "idle for", "unloaded in"),
        [
            (
                model.get("id"),
                model.get("state"),
                size(model.get("memory_bytes")),
                model.get("device"),
                model.get("in_use"),
                None if model.get("in_use") else _ago(now, model.get("last_used")),
                _ago(model.get("expires_at"), now),
            )
            for model in found
        ],
    )


@models.command(
    "show", epilog=examples("inferctl models show llama-3.2-1b", "inferctl models show smol --json")
)
@click.argument("name", metavar="ID")
@connection_options
def show_model(*, name: str) -> None:
    """Show everything the server says about one model, and how it was set up for this machine."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        found = client.model(name)
        if about := _about(client, name):
            found["about"] = about
    output.json(found)
    output.table(("", ""), _rows(found))


def _about(client: Client, name: str) -> dict[str, Any]:
    """What the model's file and its maker say, from a server that has `/api/show`."""
    try:
        shown = client.post("/api/show", {"model": name})
    except ApiError as error:
        if error.status in (404, 405, 501):
            return {}
        raise
    return {key: shown[key] for key in _ABOUT if shown.get(key)}


@models.command("load", epilog=examples("inferctl models load llama-3.2-1b"))
@click.argument("name", metavar="ID")
@connection_options
def load_model(*, name: str) -> None:
    """Load a model now rather than at its next use; needs a key with the scope models:write."""
    found = _change("load", {"model": name}, f"loading {name}")
    output = Output(as_json=current_settings().json)
    output.text(f"{name} loaded: {size(found.get('memory_bytes'))} on {found.get('device')}\n")


@models.command(
    "unload",
    epilog=examples(
        "inferctl models unload llama-3.2-1b",
        "inferctl models unload llama-3.2-1b --drain",
        "inferctl models unload llama-3.2-1b --force",
    ),
)
@click.argument("name", metavar="ID")
@click.option("--drain", is_flag=True, help="Wait until its requests have finished, for a while.")
@click.option("--force", is_flag=True, help="End its requests.")
@connection_options
def unload_model(*, name: str, drain: bool, force: bool) -> None:
    """Take a model out of memory; its next use loads it again. Needs a key with the scope models:write."""
    _change("unload", {"model": name, "drain": drain, "force": force}, f"unloading {name}")
    Output(as_json=current_settings().json).text(f"{name} unloaded\n")


@click.command(epilog=examples("inferctl tune llama-3.2-1b", "inferctl tune llama-3.2-1b --json"))
@click.argument("name", metavar="ID")
@connection_options
def tune(*, name: str) -> None:
    """Measure again what makes a model fastest on the server, and load it that way.

    Nobody may be using the model. Needs a key with the scope models:write.
    """
    found = _change("tune", {"model": name}, f"measuring {name}")
    details = found.get("details")
    rows = details.items() if isinstance(details, dict) else ()
    Output(as_json=current_settings().json).table((name, "measured and chosen"), rows)


def _change(action: str, body: dict[str, Any], what: str) -> dict[str, Any]:
    """Ask for a change, wait for its end and return the model as it is then."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client, progress(what):
        try:
            found = client.post(f"/v1/models/{action}", body)
        except ApiError as error:
            if error.body.get("code") == "model_in_use":
                error.hint = _in_use_hint(action, body["model"])
            raise
    output.json(found)
    return found


def _in_use_hint(action: str, name: str) -> str:
    if action == "unload":
        return "wait for its requests with --drain, or end them with --force"
    return f"see who uses it with: inferctl models ps; or: inferctl models unload {name} --drain"


def _rows(found: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every fact about a model, one a line, the nested ones with their path."""
    for key, value in found.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _rows(value, f"{name}.")
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value)) or None
        elif key.endswith("_bytes"):
            yield name, size(value)
        elif key in _TIMES and isinstance(value, int | float):
            yield name, time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(value))
        elif prefix and isinstance(value, str) and len(value) > _LONGEST:
            yield name, f"{value[:_LONGEST]} ... ({len(value)} characters; --output json shows all)"
        else:
            yield name, value


def _ago(later: object, earlier: object) -> str | None:
    if isinstance(later, int | float) and isinstance(earlier, int | float):
        return duration(later - earlier)
    return None
