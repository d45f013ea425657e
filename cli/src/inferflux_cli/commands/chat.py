"""`inferctl chat`: one exchange of messages, or a conversation."""

from __future__ import annotations

import rich_click as click

from inferflux_cli.chat_session import Message, Transcript, parse_message
from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.generation import Generation, deliver, generation_options
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings

__all__ = ["chat"]


@click.command(
    epilog=examples(
        'inferctl chat --message "user:Hello" --stream',
        'inferctl chat --system "Answer briefly." --message "What is a llama?"',
        'inferctl chat --message "Hi" --message "assistant:Hello!" --message "And now?"',
        "inferctl chat --interactive",
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
@generation_options
@connection_options
def chat(
    *,
    messages: tuple[str, ...],
    system: str | None,
    interactive: bool,
    stream: bool,
    generation: Generation,
) -> None:
    """Send messages and print the answer, or hold a conversation."""
    settings = current_settings()
    if not messages and not interactive:
        raise click.UsageError("give --message TEXT, or --interactive for a conversation.")
    first = [Message("system", system)] if system else []
    transcript = Transcript([*first, *map(parse_message, messages)])
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        if interactive:
            _converse(client, output, generation, transcript)
        else:
            body = {**generation.to_body(), "messages": transcript.to_request()}
            deliver(client, output, "/v1/chat/completions", body, stream=stream)


def _converse(
    client: Client, output: Output, generation: Generation, transcript: Transcript
) -> None:
    # Only a conversation needs the line editor, which takes longer to import than all the rest.
    from inferflux_cli.interactive import Chat
    from inferflux_cli.prompt import open_reader

    Chat(client, output, open_reader(output), generation, transcript).run()
