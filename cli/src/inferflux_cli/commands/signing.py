"""`inferctl models keygen | sign | verify`: signed models, on this machine, with the server's own code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.commands.local import as_path, run_module
from inferflux_cli.settings import connection_options

__all__ = ["make_key", "sign_model", "verify_model"]

_SIGNING = ("inferflux_core", "model_signing")


@click.command(
    "keygen",
    epilog=examples(
        "inferctl models keygen --out release.key",
        "inferctl models keygen --out release.key --curve p384",
    ),
)
@click.option("--out", metavar="FILE", required=True, help="A new file, private to you.")
@click.option(
    "--curve", type=click.Choice(["p256", "p384"]), default="p256", help="[default: p256]"
)
@connection_options
def make_key(*, out: str, curve: str) -> None:
    """Make a pair of keys for signing models: FILE, and FILE.pub for those who verify."""
    run_module(*_SIGNING, "keygen", f"--out={out}", f"--curve={curve}")


@click.command(
    "sign",
    epilog=examples(
        "inferctl models sign model.gguf --key release.key",
        "inferctl models sign model-00001-of-00003.gguf --key release.key",
        "inferctl models sign folder --key release.key --ignore README.md",
    ),
)
@click.argument("model", metavar="MODEL")
@click.option("--key", metavar="FILE", required=True, help="A private key, made by keygen.")
@click.option(
    "--signature",
    metavar="FILE",
    help="A new file. [default: MODEL.sig, or model.sig in a folder]",
)
@click.option(
    "--ignore",
    metavar="NAME",
    multiple=True,
    help="A file or folder to leave out of a folder; may be repeated.",
)
@connection_options
def sign_model(*, model: str, key: str, signature: str | None, ignore: Sequence[str]) -> None:
    """Sign MODEL in the OpenSSF format: a file, all parts of a split one, or all files of a folder."""
    arguments = [f"--key={key}", *_optional("signature", signature), *_each("ignore", ignore)]
    run_module(*_SIGNING, "sign", *arguments, as_path(model))


@click.command(
    "verify",
    epilog=examples(
        "inferctl models verify model.gguf --public-key release.key.pub",
        "inferctl models verify hf://org/repo/x.gguf --public-key a.pub --public-key b.pub",
    ),
)
@click.argument("model", metavar="MODEL")
@click.option(
    "--public-key",
    metavar="FILE",
    required=True,
    multiple=True,
    help="Of a signer you trust; may be repeated.",
)
@click.option(
    "--signature",
    metavar="FILE",
    help="The signature. [default: MODEL.sig or model.sig beside it, or model.sig in a folder]",
)
@connection_options
def verify_model(*, model: str, public_key: Sequence[str], signature: str | None) -> None:
    """See whether MODEL is as one of the keys has signed it; exit status 1 says that it is not."""
    arguments = [*_each("public-key", public_key), *_optional("signature", signature)]
    run_module(*_SIGNING, "verify", *arguments, as_path(model))


def _each(name: str, given: Sequence[str]) -> Iterator[str]:
    return (f"--{name}={text}" for text in given)


def _optional(name: str, given: str | None) -> Iterator[str]:
    return _each(name, [] if given is None else [given])
