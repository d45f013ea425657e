"""Answers that are read as bytes: what reading costs does not depend on what they say."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from bench import BenchError
from bench.client import Target

__all__ = ["ByteStream", "connect"]

_OK: Final = b"HTTP/1.1 200"
# The end of a chunked body. No dialect has a carriage return in what it sends.
_END: Final = b"\r\n0\r\n\r\n"
_ERROR_BYTES: Final = 2_000
_PACKETS: Final = 8
"""That are kept of an answer: what comes last says how many tokens it has."""


class ByteStream(asyncio.Protocol):
    """A keep-alive connection that only looks for the ends of answers."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._last: deque[bytes] = deque(maxlen=_PACKETS)

    async def exchange(self, request: bytes, proof: bytes) -> None:
        """Send a request and wait for the end of its answer.

        Args:
            request: to send.
            proof: stands at the end of an answer that is complete.

        Raises:
            BenchError: the status is not 200, the connection broke, or the proof is missing.
        """
        assert self._transport is not None
        self._last.clear()
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._done
        end = b"".join(self._last)
        if proof not in end:
            raise BenchError(f"{self._name}: no {proof!r} at the end of an answer: {end!r}")

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Keep the end, and look whether it is one."""
        if not self._last and not data.startswith(_OK):
            self._fail(data[:_ERROR_BYTES].decode(errors="replace"))
            return
        self._last.append(data)
        end = data if len(data) >= len(_END) else b"".join(self._last)
        if end.endswith(_END) and self._done is not None:
            self._done.set_result(None)
            self._done = None

    def connection_lost(self, exc: Exception | None) -> None:
        """An error, if an answer is awaited."""
        self._fail(f"connection lost: {exc or 'closed by the server'}")

    def _fail(self, problem: str) -> None:
        if self._done is not None:
            self._done.set_exception(BenchError(f"{self._name} failed: {problem}"))
            self._done = None


async def connect(target: Target, users: int) -> list[ByteStream]:
    """A connection for each user."""
    loop = asyncio.get_running_loop()
    ssl = True if target.secure else None
    made = [
        await loop.create_connection(lambda: ByteStream(target.name), *target.address, ssl=ssl)
        for _ in range(users)
    ]
    return [stream for _, stream in made]
