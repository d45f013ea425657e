"""`inferctl convert` and `inferctl quantize`: model files on this machine, made by the server's own code."""

from __future__ import annotations

import rich_click as click

from inferflux_cli.commands._help import examples
from inferflux_cli.commands.local import as_path, run_module
from inferflux_cli.settings import connection_options

__all__ = ["convert", "quantize"]

_FORCE = click.option("--force", is_flag=True, help="Replace TARGET if it is there.")


@click.command(
    "convert",
    epilog=examples(
        "inferctl convert llama-3.2-1b.Q8_0.gguf llama-3.2-1b",
        "inferctl convert hf://org/repo/model.gguf model --dtype f32",
        "inferctl convert llama-3.2-1b llama-3.2-1b.gguf",
    ),
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--dtype",
    type=click.Choice(["bf16", "f16", "f32"]),
    help="Of the weights, from GGUF to safetensors. [default: bf16]",
)
@_FORCE
@connection_options
def convert(*, source: str, target: str, dtype: str | None, force: bool) -> None:
    """Convert SOURCE, a GGUF file, to TARGET, a folder with safetensors, or such a folder to a GGUF file.

    Tokenizer and chat template come along. The weights of a folder keep their type; quantize makes them
    smaller. Needs no server.
    """
    options = [f"--dtype={dtype}"] if dtype else []
    _run("inferflux_gguf", "convert", source, target, options, force=force)


@click.command(
    "quantize",
    epilog=examples(
        "inferctl quantize llama-3.2-1b.F16.gguf llama-3.2-1b.Q4_K_M.gguf --type q4_k_m",
        "inferctl quantize llama-3.2-1b llama-3.2-1b.Q8_0.gguf --type q8_0",
    ),
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--type", "kind", metavar="TYPE", required=True, help="Such as q8_0, q5_k_m or q4_k_m."
)
@_FORCE
@connection_options
def quantize(*, source: str, target: str, kind: str, force: bool) -> None:
    """Write the model SOURCE to TARGET, a GGUF file with smaller weights.

    SOURCE is a GGUF file that was not quantized before, or a folder with safetensors. Needs no server.
    """
    options = [f"--type={kind}"]
    _run("inferflux_runner_llamacpp", "quantize", source, target, options, force=force)


def _run(
    package: str, module: str, source: str, target: str, options: list[str], *, force: bool
) -> None:
    flags = ["--force"] if force else []
    run_module(package, module, *options, *flags, as_path(source), as_path(target), extra="cpu")
