"""Streams kept in files: JSON lines with the time, the name, the id and the text of each event."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from inferflux_cli.errors import CliError
from inferflux_cli.event_stream import MAX_EVENT_BYTES, StreamEvent

__all__ = ["TimedEvent", "Write", "read_recording", "recording"]

# JSON may take six characters for one.
_MAX_LINE: Final = 6 * MAX_EVENT_BYTES + 4096
_LONGEST_MS: Final = 1e9


@dataclass(frozen=True, slots=True)
class TimedEvent:
    """An event and when it came, in milliseconds after the request."""

    offset_ms: float
    event: StreamEvent

    def to_json(self) -> dict[str, Any]:
        """Return the form kept in files."""
        return {
            "offset_ms": self.offset_ms,
            "event": self.event.event,
            "id": self.event.id,
            "data": self.event.data,
        }


class Write(Protocol):
    """Takes an event to be kept."""

    def __call__(self, event: TimedEvent) -> None:
        """Keep it."""


@contextmanager
def recording(path: Path | None) -> Iterator[Write]:
    """Yield what writes events to a file, readable by its owner only; or nowhere, without one.

    Raises:
        CliError: the file cannot be written.
    """
    if path is None:
        yield lambda event: None
        return
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    # Unbuffered: closing it has nothing left to fail at.
    with os.fdopen(handle, "wb", buffering=0) as file:

        def write(event: TimedEvent) -> None:
            line = json.dumps(event.to_json()).encode("ascii") + b"\n"
            try:
                while line:
                    line = line[file.write(line) :]
            except OSError as error:
                raise _unwritable(path, error) from error

        yield write


def read_recording(path: Path) -> Iterator[TimedEvent]:
    """Return the events of a file, a line at a time.

    Raises:
        CliError: it cannot be read, or a line is not an event.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE):
                number += 1
                yield _event(line, f"line {number} of {path}")
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error


def _unwritable(path: Path, error: OSError) -> CliError:
    return CliError(f"cannot write {path}: {error.strerror}")


def _event(line: bytes, where: str) -> TimedEvent:
    try:
        fields = json.loads(line)
        offset, data = fields["offset_ms"], fields["data"]
        names = fields.get("event"), fields.get("id")
        valid = isinstance(data, str) and all(n is None or isinstance(n, str) for n in names)
        if not valid or not 0 <= offset <= _LONGEST_MS:
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CliError(
            f"{where} is not an event of a recorded stream",
            hint="play a file that --record or --output json wrote",
        ) from error
    return TimedEvent(offset, StreamEvent(data, *names))
