"""Streams as they come over HTTP: Server-Sent Events, or JSON one a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import httpx2

from inferflux_cli.errors import CliError

__all__ = ["MAX_EVENT_BYTES", "StreamEvent", "read_events"]

MAX_EVENT_BYTES: Final = 16 * 2**20

_SSE: Final = "text/event-stream"
_LINES: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event.

    Attributes:
        data: its text, nearly always JSON.
        event: its name; None where the stream has no names.
        id: the last id that the stream told.
    """

    data: str
    event: str | None = None
    id: str | None = None


def read_events(response: httpx2.Response, limit: int = MAX_EVENT_BYTES) -> Iterator[StreamEvent]:
    """Return the events of a response as they come.

    Args:
        response: with its body still to be read.
        limit: most bytes of one event.

    Raises:
        CliError: at once, for a response that is not a stream of events; while reading, for an
            event above the limit.
        httpx2.RequestError: while reading, if the connection breaks.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _SSE:
        return _sse(response, limit)
    if kind in _LINES:
        return (StreamEvent(text) for text in _lines(response.iter_bytes(), limit) if text.strip())
    raise CliError(
        f"{response.url} answered with {kind or 'no content type'}, not with an event stream",
        hint='ask for a stream if the route needs it, as with {"stream": true}',
    )


def _sse(response: httpx2.Response, limit: int) -> Iterator[StreamEvent]:
    try:
        for event in httpx2.EventSource(response, max_event_size=limit):
            yield StreamEvent(event.data, event.event, event.id or None)
    except httpx2.SSEError as error:
        raise _too_large(limit) from error


def _lines(chunks: Iterable[bytes], limit: int) -> Iterator[str]:
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield b"".join([*parts, piece]).decode(errors="replace")
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > limit:
            raise _too_large(limit)
    if last := b"".join(parts):
        yield last.decode(errors="replace")


def _too_large(limit: int) -> CliError:
    return CliError(f"an event of the stream is larger than {limit:,} bytes")
