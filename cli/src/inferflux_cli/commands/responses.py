"""`inferctl responses`: answers that the server keeps, to be continued by their id."""

from __future__ import annotations

import sys
from typing import Any, Final
from urllib.parse import quote

import rich_click as click

from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.errors import ApiError
from inferflux_cli.generation import explain_finish, with_model
from inferflux_cli.render import Output
from inferflux_cli.settings import connection_options, current_settings
from inferflux_cli.shapes import as_object, as_objects, as_text, json_object

__all__ = ["responses"]

_PATH: Final = "/v1/responses"
_LAST: Final = ("response.completed", "response.incomplete", "response.failed", "error")
_REASONS: Final = {"max_output_tokens": "length"}


@click.command(
    epilog=examples(
        'inferctl responses "Name a river."',
        'inferctl responses "And another one?" --previous resp_1234',
        "inferctl responses - --instructions 'Summarise.' < report.txt",
        'inferctl responses "Write a long story." --background',
        "inferctl responses --get resp_1234",
        "inferctl responses --cancel resp_1234",
        "inferctl responses --delete resp_1234",
    )
)
@click.argument("prompt", required=False)
@click.option("--previous", metavar="ID", help="Continue after this response.")
@click.option("--instructions", metavar="TEXT", help="What to heed in this answer.")
@click.option("--model", metavar="NAME", help="Model. [default: the server's first]")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer, in tokens.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0 is deterministic.")
@click.option("--no-store", is_flag=True, help="The server is to forget it at once.")
@click.option("--no-stream", is_flag=True, help="Write the answer when it is complete.")
@click.option("--background", is_flag=True, help="Do not wait; fetch it later with --get.")
@click.option("--get", metavar="ID", help="Print a response that the server keeps.")
@click.option("--cancel", metavar="ID", help="End one that runs in the background.")
@click.option("--delete", metavar="ID", help="Have the server forget one.")
@connection_options
def responses(
    *,
    prompt: str | None,
    get: str | None,
    cancel: str | None,
    delete: str | None,
    **options: Any,
) -> None:
    """Answer PROMPT (- reads stdin) and print the id to continue from, on stderr."""
    if sum(value is not None for value in (prompt, get, cancel, delete)) != 1:
        raise click.UsageError("give one of PROMPT, --get ID, --cancel ID and --delete ID.")
    given = [key for key, value in options.items() if value is not None and value is not False]
    if prompt is None and given:
        raise click.UsageError(f"--{given[0].replace('_', '-')} goes with a PROMPT.")
    settings = current_settings()
    output = Output(as_json=settings.json)
    with Client(settings) as client:
        if prompt is not None:
            _answer(client, output, sys.stdin.read() if prompt == "-" else prompt, options)
        elif get is not None:
            _show(output, client.get_json(_one(get)))
        elif cancel is not None:
            found = client.post(f"{_one(cancel)}/cancel", {})
            output.json(found)
            output.text(f"{cancel} {found.get('status')}\n")
        elif delete is not None:
            output.json(json_object(client.delete_text(_one(delete))))
            output.text(f"{delete} deleted\n")


def _one(name: str) -> str:
    return f"{_PATH}/{quote(name, safe='')}"


def _answer(client: Client, output: Output, prompt: str, options: dict[str, Any]) -> None:
    fields = {
        "input": prompt,
        "model": options["model"],
        "instructions": options["instructions"],
        "previous_response_id": options["previous"],
        "max_output_tokens": options["max_tokens"],
        "temperature": options["temperature"],
        "store": False if options["no_store"] else None,
        "background": options["background"] or None,
    }
    body = with_model(client, {k: v for k, v in fields.items() if v is not None})
    if options["no_stream"] or options["background"]:
        _show(output, client.post(_PATH, body), stored=not options["no_store"])
        return
    _explain(output, _stream(client, output, body), stored=not options["no_store"])


def _stream(client: Client, output: Output, body: dict[str, Any]) -> dict[str, Any]:
    """Write an answer as it comes, and return the response as it is at the end."""
    response: dict[str, Any] = {}
    try:
        with client.stream(_PATH, body, last=_LAST) as events:
            for event in events:
                output.json(event)
                if event.get("type") == "error":
                    raise _failure(event)
                if event.get("type") == "response.output_text.delta":
                    output.text(as_text(event.get("delta")))
                response = as_object(event.get("response")) or response
    finally:
        output.end()
    return response


def _show(output: Output, response: dict[str, Any], *, stored: bool = True) -> None:
    output.json(response)
    output.text(_text(response))
    output.end()
    _explain(output, response, stored=stored)


def _explain(output: Output, response: dict[str, Any], *, stored: bool) -> None:
    """Say how it ended and what it is called.

    Raises:
        ApiError: it failed.
    """
    status = response.get("status")
    if status == "failed":
        raise _failure(as_object(response.get("error")))
    reason = as_text(as_object(response.get("incomplete_details")).get("reason"))
    explain_finish(output, _REASONS.get(reason, reason))
    if status not in ("completed", "incomplete"):
        output.note(f"status: {status}")
    if stored:
        output.note(f"response id: {response.get('id')}")


def _failure(error: dict[str, Any]) -> ApiError:
    message = as_text(error.get("message")) or "the server failed on this response"
    return ApiError(message, status=200, body=error)


def _text(response: dict[str, Any]) -> str:
    """The text in the messages of a response."""
    messages = [i for i in as_objects(response.get("output")) if i.get("type") == "message"]
    parts = [part for message in messages for part in as_objects(message.get("content"))]
    return "".join(as_text(part.get("text")) for part in parts)
