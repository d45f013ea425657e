"""Noticing that a client has gone while nothing has been sent to it yet."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar.types import Receive

__all__ = ["ClientDisconnectedError", "unless_disconnected"]

T = TypeVar("T")


class ClientDisconnectedError(Exception):
    """The client closed the connection; nobody will read the answer."""


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it as soon as the client goes away.

    Only for requests whose body has been read: what else arrives is thrown away.

    Raises:
        ClientDisconnectedError: the client went first.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnectedError
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
