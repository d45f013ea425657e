"""`inferctl adapters`: LoRA adapters, while the server goes on serving, and encrypted files of them."""

from __future__ import annotations

from typing import Any

import rich_click as click

from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.commands.local import as_path, run_module
from inferflux_cli.errors import ApiError
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings

__all__ = ["adapters"]

_ENCRYPTION = ("inferflux_core", "encrypted_adapters")


@click.group(
    epilog=examples(
        "inferctl adapters list",
        "inferctl adapters load style style.gguf",
        "inferctl adapters unload style",
        "inferctl adapters encrypt style.gguf --key-file keys.json",
    )
)
@connection_options
def adapters() -> None:
    """List, load and unload LoRA adapters, and encrypt files of them.

    Load and unload need a key with the scope adapters:write. The commands about encrypted files work on
    this machine, with the server's own code, and overwrite nothing.
    """


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
    """Load PATH, a GGUF file or PEFT folder on the server, and serve it as the model NAME.

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


@adapters.command(
    "keygen",
    epilog=examples(
        "inferctl adapters keygen --out keys.json",
        "inferctl adapters keygen --out keys-2.json --previous keys.json",
    ),
)
@click.option("--out", metavar="FILE", required=True, help="A new file, private to you.")
@click.option(
    "--previous", metavar="FILE", help="A key file; what its key has encrypted stays readable."
)
@connection_options
def make_key(*, out: str, previous: str | None) -> None:
    """Make a key file for encrypted adapters."""
    run_module(*_ENCRYPTION, "keygen", *_options(out=out, previous=previous))


_KEY_FILE = click.option("--key-file", metavar="FILE", required=True, help="Made by keygen.")


@adapters.command(
    "encrypt",
    epilog=examples(
        "inferctl adapters encrypt style.gguf --key-file keys.json",
        "inferctl adapters encrypt style.gguf --key-file keys.json --out adapters/style.gguf.enc",
    ),
)
@click.argument("file", metavar="FILE")
@_KEY_FILE
@click.option("--out", metavar="FILE", help="A new file. [default: NAME.gguf.enc beside FILE]")
@click.option("--name", help="What the adapter's file will be called. [default: as it is]")
@connection_options
def encrypt(*, file: str, key_file: str, out: str | None, name: str | None) -> None:
    """Encrypt FILE, a GGUF file, for servers that have the key. FILE stays as it is."""
    options = _options(key_file=key_file, out=out, name=name)
    run_module(*_ENCRYPTION, "encrypt", *options, as_path(file))


@adapters.command(
    "reencrypt",
    epilog=examples(
        "inferctl adapters reencrypt style.gguf.enc --key-file keys-2.json --out style.new",
        "mv style.new style.gguf.enc",
    ),
)
@click.argument("file", metavar="FILE")
@_KEY_FILE
@click.option("--out", metavar="FILE", required=True, help="A new file.")
@connection_options
def reencrypt(*, file: str, key_file: str, out: str) -> None:
    """Encrypt FILE, an encrypted adapter, anew with the newest key; it is decrypted in memory only."""
    options = _options(key_file=key_file, out=out)
    run_module(*_ENCRYPTION, "reencrypt", *options, as_path(file))


def _options(**given: str | None) -> list[str]:
    return [
        f"--{name.replace('_', '-')}={text}" for name, text in given.items() if text is not None
    ]


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
