"""Reading frames from a blocking socket and from an asyncio stream."""

from __future__ import annotations

import asyncio
import socket

from inferflux_core.engine.protocol import HEADER, MAX_FRAME_BYTES

__all__ = ["ConnectionClosedError", "read_frame", "read_frame_async"]


class ConnectionClosedError(Exception):
    """The other side closed the connection."""


def read_frame(connection: socket.socket) -> bytes:
    """The body of the next frame.

    Raises:
        ConnectionClosedError: the other side is gone.
    """
    return _read_exactly(connection, _body_length(_read_exactly(connection, HEADER.size)))


async def read_frame_async(reader: asyncio.StreamReader) -> bytes:
    """The body of the next frame.

    Raises:
        ConnectionClosedError: the other side is gone.
    """
    try:
        return await reader.readexactly(_body_length(await reader.readexactly(HEADER.size)))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise ConnectionClosedError from error


def _body_length(header: bytes) -> int:
    length: int = HEADER.unpack(header)[0]
    if length > MAX_FRAME_BYTES:
        raise ConnectionClosedError(f"a frame of {length} bytes cannot be ours")
    return length


def _read_exactly(connection: socket.socket, length: int) -> bytes:
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        received = connection.recv_into(view)
        if not received:
            raise ConnectionClosedError
        view = view[received:]
    return bytes(buffer)
