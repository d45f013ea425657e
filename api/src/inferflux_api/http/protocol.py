"""Limits that the HTTP server itself does not set: header size, and time to send a request."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["LimitedProtocol", "limited_protocol"]

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 128
MIN_BODY_BYTES_PER_SECOND = 64 * 1024


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections whose request is too long in its head or in coming.

    uvicorn's parser has no bound on headers, and its only timer runs between requests. A body that takes
    longer, because it is long, gets more time for as long as it keeps coming.
    """

    receive_timeout: ClassVar[float] = 30.0

    _head_bytes = 0
    _body_bytes = 0
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
        """Count what belongs to a head that is not complete yet."""
        if self._reading_head:
            if self._deadline is None:
                self._start_clock()
            self._head_bytes += len(data)
        else:
            self._body_bytes += len(data)
        super().data_received(data)
        if self._reading_head and self._head_bytes > MAX_HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        """The head is in; the body has its own limit, and as much time again."""
        self._reading_head = False
        self._head_bytes = 0
        if len(self.headers) > MAX_HEADERS:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        if sum(name == b"host" for name, _ in self.headers) > 1:
            # What stands before us may have believed the other one.
            self._refuse(b"400 Bad Request")
            return
        self._start_clock()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is in."""
        self._stop_clock()
        self._reading_head = True
        super().on_message_complete()

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
