"""`inferctl sse`: look at a stream of events as it comes, keep it, and play it again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx2
import rich_click as click

from inferflux_cli.client import Client
from inferflux_cli.commands._help import examples
from inferflux_cli.errors import ApiError, CliError, UnreachableError
from inferflux_cli.files import read_text
from inferflux_cli.login.session import credential
from inferflux_cli.recording import TimedEvent, read_recording, recording
from inferflux_cli.render import Output
from inferflux_cli.settings import Settings, connection_options, current_settings

__all__ = ["sse"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@click.command(
    epilog=examples(
        'inferctl sse /v1/responses --data \'{"input": "Hi", "stream": true}\'',
        "inferctl sse /api/chat --data @request.json --record chat.jsonl",
        "inferctl sse https://stream.example.org/events --output json",
        "inferctl sse --play chat.jsonl --speed 2",
    )
)
@click.argument("target", metavar="URL_OR_PATH", required=False)
@click.option("--data", metavar="JSON", help="POST this; @FILE reads a file, @- stdin.")
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the stream in FILE, as the lines of --output json.",
)
@click.option(
    "--play",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show a recorded stream, as fast as it came.",
)
@click.option(
    "--speed", type=click.FloatRange(0.01, 1000), metavar="FACTOR", help="Play so much faster."
)
@click.option("--fast", is_flag=True, help="Play without waiting.")
@connection_options
def sse(
    *,
    target: str | None,
    data: str | None,
    record: Path | None,
    play: Path | None,
    speed: float | None,
    fast: bool,
) -> None:
    """Show a stream of Server-Sent Events or JSON lines, with the time at which each event came.

    A path, which begins with /, is one of the server's. The API key is sent to the server only, never
    to another address.
    """
    if (target is None) == (play is None):
        raise click.UsageError("give URL_OR_PATH, or --play FILE.")
    if play is None and (speed or fast):
        raise click.UsageError("--speed and --fast go with --play FILE.")
    if play is not None and (data or record):
        raise click.UsageError("--data and --record do not go with --play.")
    if speed and fast:
        raise click.UsageError("give --speed or --fast, not both.")
    settings = current_settings()
    output = Output(as_json=settings.json)
    if play is not None:
        _play(output, read_recording(play), None if fast else speed or 1.0)
    elif target is not None:
        _watch(output, settings, target, None if data is None else _body(data), record)


def _watch(
    output: Output, settings: Settings, target: str, content: bytes | None, record: Path | None
) -> None:
    url = _url(settings, target)
    there = replace(settings, url=_origin(url))
    trusted = there.url == _origin(httpx2.URL(settings.url))
    with Client(replace(there, api_key=credential(settings) if trusted else None)) as client:
        started = time.monotonic()
        try:
            with (
                client.watch(url.raw_path.decode("ascii"), content) as events,
                recording(record) as keep,
            ):
                for event in events:
                    timed = TimedEvent(round((time.monotonic() - started) * 1000, 3), event)
                    keep(timed)
                    _show(output, timed)
        except (ApiError, UnreachableError) as error:
            if not trusted and error.exit_code != 1:
                error.hint = f"this is not {settings.url}; the API key was not sent there"
            raise


def _play(output: Output, events: Iterable[TimedEvent], speed: float | None) -> None:
    """Show events at `speed` times the pace at which they came; at once where it is None."""
    started = time.monotonic()
    for event in events:
        if speed is not None:
            due = started + event.offset_ms / 1000 / speed
            time.sleep(max(0.0, due - time.monotonic()))
        _show(output, event)


def _show(output: Output, timed: TimedEvent) -> None:
    output.json(timed.to_json())
    if not output.as_json:
        name = timed.event.event or ""
        number = f" id={timed.event.id}" if timed.event.id else ""
        head = f"+{timed.offset_ms / 1000:.3f} s {name}{number}".rstrip()
        output.text(f"{head}\n{_pretty(timed.event.data)}\n\n")


def _pretty(data: str) -> str:
    try:
        return json.dumps(json.loads(data), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return data


def _url(settings: Settings, target: str) -> httpx2.URL:
    if not target.startswith(("/", "http://", "https://")):
        raise click.UsageError("give a path that begins with /, or an http:// or https:// URL.")
    try:
        url = httpx2.URL(settings.url + target if target.startswith("/") else target)
    except httpx2.InvalidURL as error:
        raise click.UsageError(f"this is no address: {error}") from error
    if not url.host:
        raise click.UsageError("this address names no host.")
    if url.userinfo:
        raise click.UsageError("no credentials in the address, please.")
    return url


def _origin(url: httpx2.URL) -> str:
    """The part of a URL that says whose it is, always written the same way."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = url.port or _DEFAULT_PORTS[url.scheme]
    return f"{url.scheme}://{host}:{port}"


def _body(data: str) -> bytes:
    """The JSON to send; kept as it was written."""
    text = data
    if data == "@-":
        text = sys.stdin.read()
    elif data.startswith("@"):
        text = read_text(Path(data[1:]))
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CliError(f"what --data gives is not JSON: {error}") from error
    return text.encode(errors="replace")
