"""`inferctl completion`: continue a text."""

from __future__ import annotations

import sys

import rich_click as click

from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.generation import Generation, deliver, generation_options
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings

__all__ = ["completion"]


@click.command(
    epilog=examples(
        'inferctl completion --prompt "Once upon a time" --max-tokens 64 --stream',
        "inferctl completion --prompt - < prompt.txt",
        'inferctl completion --prompt "2+2=" --temperature 0 --json',
    )
)
@click.option("--prompt", required=True, metavar="TEXT", help="Text to continue; - reads stdin.")
@click.option("--stream", is_flag=True, help="Write the answer as it comes.")
@generation_options
@connection_options
def completion(*, prompt: str, stream: bool, generation: Generation) -> None:
    """Continue a text."""
    settings = current_settings()
    text = sys.stdin.read() if prompt == "-" else prompt
    body = {**generation.to_body(), "prompt": text}
    with Client(settings) as client:
        deliver(client, Output(as_json=settings.json), "/v1/completions", body, stream=stream)
