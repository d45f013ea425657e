"""`inferctl chat`: one exchange of messages, or a conversation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from inferflux_cli.asking import can_ask
from inferflux_cli.chat_session import Message, Transcript, parse_message
from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.generation import Generation, deliver, generation_options
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings

if TYPE_CHECKING:
    from inferflux_cli.tool_loop import ToolBox

__all__ = ["chat"]


@click.command(
    epilog=examples(
        'inferctl chat --message "user:Hello" --stream',
        'inferctl chat --system "Answer briefly." --message "What is a llama?"',
        'inferctl chat --message "Hi" --message "assistant:Hello!" --message "And now?"',
        "inferctl chat --interactive",
        'inferctl chat --tools tools.yaml --message "What is the weather in Oslo?"',
        'inferctl chat --tools tools.yaml --yes --output json --message "Weather in Oslo?"',
    )
)
@click.option(
    "--message",
    "messages",
    multiple=True,
    metavar="TEXT",
    help="A message; may start with user: (the default), assistant: or system:, may repeat.",
)
@click.option("--system", metavar="TEXT", help="System message, put first.")
@click.option("--interactive", is_flag=True, help="Hold a conversation.")
@click.option("--stream", is_flag=True, help="Write the answer as it comes.")
@click.option(
    "--tools",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Tools the model may call: OpenAI definitions as JSON or YAML, each perhaps with a "
    "command: [program, argument, ...] that gets the arguments as JSON on stdin.",
)
@click.option("--yes", is_flag=True, help="Run the commands of tools without asking.")
@click.option(
    "--tool-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time a tool's command may take.",
)
@click.option(
    "--max-rounds",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Most requests until the model has to answer without calls.",
)
@generation_options
@connection_options
def chat(
    *,
    messages: tuple[str, ...],
    system: str | None,
    interactive: bool,
    stream: bool,
    tools: Path | None,
    yes: bool,
    tool_timeout: float,
    max_rounds: int,
    generation: Generation,
) -> None:
    """Send messages and print the answer, or hold a conversation.

    With --tools the calls of the model are answered until it answers itself: by the tool's command,
    or at a terminal by you.
    """
    settings = current_settings()
    if not messages and not interactive:
        raise click.UsageError("give --message TEXT, or --interactive for a conversation.")
    if tools and interactive:
        raise click.UsageError("--tools goes with --message, not with --interactive.")
    output = Output(as_json=settings.json)
    toolbox = _toolbox(output, tools, yes, tool_timeout, max_rounds) if tools else None
    first = [Message("system", system)] if system else []
    transcript = Transcript([*first, *map(parse_message, messages)])
    body = {**generation.to_body(), "messages": transcript.to_request()}
    with Client(settings) as client:
        if interactive:
            _converse(client, output, generation, transcript)
        elif toolbox:
            toolbox.converse(client, output, body, stream=stream)
        else:
            deliver(client, output, "/v1/chat/completions", body, stream=stream)


def _toolbox(output: Output, file: Path, yes: bool, timeout: float, max_rounds: int) -> ToolBox:
    # Only tools need YAML.
    from inferflux_cli.tool_loop import ToolBox
    from inferflux_cli.tools import load_tools

    toolbox = ToolBox(load_tools(file), yes, timeout, max_rounds)
    if toolbox.needs_somebody and not can_ask(output):
        raise click.UsageError(
            "nobody is here to allow the commands of the tools: give --yes to run them unasked."
        )
    return toolbox


def _converse(
    client: Client, output: Output, generation: Generation, transcript: Transcript
) -> None:
    # Only a conversation needs the line editor, which takes longer to import than all the rest.
    from inferflux_cli.interactive import Chat
    from inferflux_cli.prompt import open_reader

    Chat(client, output, open_reader(output), generation, transcript).run()
