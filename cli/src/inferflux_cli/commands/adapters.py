"""`inferctl adapters`: LoRA adapters, while the server goes on serving."""

from __future__ import annotations

from typing import Any

import rich_click as click

from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.errors import ApiError
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings

__all__ = ["adapters"]


@click.group(
    epilog=examples(
        "inferctl adapters list",
        "inferctl adapters load style style.gguf",
        "inferctl adapters unload style",
    )
)
@connection_options
def adapters() -> None:
    """List, load and unload LoRA adapters; load and unload need a key with the scope adapters:write."""


@adapters.command(
    "list", epilog=examples("inferctl adapters list", "inferctl adapters list --json")
)
@connection_options
def list_adapters() -> None:
    """List the adapters and the models they belong to, one a line."""
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        found = [model for model in client.models() if model.get("parent")]
    output.json({"object": "list", "data": found})
    output.table(
        ("adapter", "model", "file"), [(a.get("id"), a["parent"], a.get("root")) for a in found]
    )


@adapters.command(
    "load",
    epilog=examples(
        "inferctl adapters load style style.gguf",
        "inferctl adapters load style /srv/adapters/style-v2.gguf --replace",
        "inferctl adapters load style style.gguf --model llama-3.2-1b",
    ),
)
@click.argument("name", metavar="NAME")
@click.argument("path", metavar="PATH")
@click.option("--replace", is_flag=True, help="Put it in the place of the one of that name.")
@click.option("--model", metavar="ID", help="The model it is for, where several are served.")
@connection_options
def load_adapter(*, name: str, path: str, replace: bool, model: str | None) -> None:
    """Load PATH, a GGUF file on the server, and serve it as the model NAME.

    A relative path begins in the server's folder for adapters.
    """
    body = {"lora_name": name, "lora_path": path, "load_inplace": replace, "base_model_name": model}
    _change("/v1/load_lora_adapter", body, {"adapter": name, "status": "loaded"})


@adapters.command("unload", epilog=examples("inferctl adapters unload style"))
@click.argument("name", metavar="NAME")
@connection_options
def unload_adapter(*, name: str) -> None:
    """Stop serving the adapter NAME; answers that are being written go on with it."""
    body = {"lora_name": name}
    _change("/v1/unload_lora_adapter", body, {"adapter": name, "status": "unloaded"})


def _change(path: str, body: dict[str, Any], done: dict[str, str]) -> None:
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        try:
            client.post_text(path, body)
        except ApiError as error:
            error.hint = error.hint or _hint(error)
            raise
    output.json(done)
    output.text(f"{done['adapter']} {done['status']}\n")


def _hint(error: ApiError) -> str | None:
    param = error.body.get("param")
    if "already been loaded" in error.message:
        return "replace it with --replace, or choose another name"
    if param == "base_model_name":
        return "name the model with --model"
    if error.status == 404 and param == "lora_name":
        return "see what there is with: inferctl adapters list"
    if error.status == 404:
        return "PATH is looked up on the server, not on this machine"
    return None
