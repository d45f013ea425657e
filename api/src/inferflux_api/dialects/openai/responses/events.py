"""Events of a stream: numbered, and framed for whoever reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

__all__ = ["SSE", "EventWriter", "Framing", "split_events"]

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Framing:
    """What is around the JSON of an event.

    Attributes:
        named: whether the lines of server-sent events come before it.
        closing: what follows the sequence number, the end of the object included.
    """

    named: bool
    closing: bytes


SSE: Final = Framing(named=True, closing=b"}\n\n")


class EventWriter:
    """Writes events with sequence numbers that start at 0."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._number = 0

    def event(self, name: str, /, **fields: Any) -> bytes:
        """A whole event."""
        return self.head(name, **fields) + self.tail()

    def head(self, name: str, /, **fields: Any) -> bytes:
        """What events of one name have in common: everything up to the next field."""
        content = _encode({"type": name, **fields})[:-1]
        return b"event: %b\ndata: %b" % (name.encode(), content) if self._framing.named else content

    def tail(self) -> bytes:
        """The sequence number and the end of an event."""
        number = self._number
        self._number += 1
        return b',"sequence_number":%d%b' % (number, self._framing.closing)


def split_events(data: bytes) -> list[bytes]:
    """The server-sent events in what was written."""
    return [event + b"\n\n" for event in data.split(b"\n\n")[:-1]]
