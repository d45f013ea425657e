"""Limits that the HTTP server itself does not set: header size, and time to send a request."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["LimitedProtocol", "limited_protocol"]

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 128
MIN_BODY_BYTES_PER_SECOND = 64 * 1024

_BAD: Final = b"400 Bad Request"
_TOO_LARGE: Final = b"431 Request Header Fields Too Large"


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections whose request is too long in its head or in coming, or could be read in two ways.

    uvicorn's parser has no bound on headers, and its only timer runs between requests. A body that takes
    longer, because it is long, gets more time for as long as it keeps coming.
    """

    receive_timeout: ClassVar[float] = 30.0

    _head_bytes = 0
    _body_bytes = 0
    _idle_bytes = 0
    _reading_head = True
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head that is not complete yet, or comes with a body without being it."""
        if self._reading_head:
            if self._deadline is None:
                self._start_clock()
            self._head_bytes += len(data)
        else:
            self._body_bytes += len(data)
            self._idle_bytes += len(data)
        super().data_received(data)
        if max(self._head_bytes, self._idle_bytes) > MAX_HEADER_BYTES:
            self._refuse(_TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what is in the head; what comes behind a body would be taken for it, after all checks."""
        if self._reading_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is in; the body has its own limit, and as much time again."""
        self._reading_head = False
        self._head_bytes = 0
        if (status := self._objection()) is not None:
            self._refuse(status)
            return
        self._start_clock()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._idle_bytes = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is in."""
        self._stop_clock()
        self._idle_bytes = 0
        self._reading_head = True
        if not self.transport.is_closing():
            super().on_message_complete()

    def _should_upgrade(self) -> bool:
        """Whether a WebSocket begins; not on a connection that was refused."""
        return not self.transport.is_closing() and super()._should_upgrade()

    def _objection(self) -> bytes | None:
        """Why a head is refused: what stands before us may have read another request in the same bytes."""
        # All of it may have come at once.
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            return _TOO_LARGE
        names = [name for name, _ in self.headers]
        hosts = names.count(b"host")
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            return _BAD
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            return _BAD
        # The parser takes the body of such a request for another protocol, or for the next request.
        if self.parser.should_upgrade() and (codings or b"content-length" in names):
            return _BAD
        return None

    def _start_clock(self) -> None:
        self._stop_clock()
        self._body_bytes = 0
        self._deadline = self.loop.call_later(self.receive_timeout, self._time_is_up)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_is_up(self) -> None:
        if self._body_bytes < self.receive_timeout * MIN_BODY_BYTES_PER_SECOND:
            self._refuse(b"408 Request Timeout")
        else:
            self._start_clock()

    def _refuse(self, status: bytes) -> None:
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and self.cycle.response_started
        if not answering:
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()


def limited_protocol(receive_timeout: float) -> type[LimitedProtocol]:
    """A protocol class with its own time limit; uvicorn takes a class, not an instance."""
    attributes: dict[str, Any] = {"receive_timeout": receive_timeout}
    return type("LimitedProtocol", (LimitedProtocol,), attributes)
