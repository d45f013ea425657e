"""Generations that can be aborted by the id their client gave them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

from inferflux_api.generation import Delta
from inferflux_api.pipeline import Generation
from inferflux_core.auth import Principal
from inferflux_core.errors import InvalidRequestError

__all__ = ["Abortable", "Running"]

Key: TypeAlias = tuple[str, str, str, str]

T = TypeVar("T")


class Abortable:
    """Lets somebody else end a wait of the task that does the work."""

    def __init__(self) -> None:
        self._waiting: asyncio.Timeout | None = None
        self.aborted = False

    def abort(self) -> None:
        """End it."""
        self.aborted = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def wait(self, something: Awaitable[T]) -> T | None:
        """The result, or None if it was aborted first."""
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await something
        except TimeoutError:
            if not self.aborted:
                raise
            return None
        finally:
            self._waiting = None

    async def deltas(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        """Those of a generation, as long as it is not aborted."""
        deltas = aiter(generation.deltas())
        while not self.aborted:
            delta = await self.wait(anext(deltas, None))
            if delta is None:
                return
            yield delta


class Running:
    """What runs, by the principal that asked for it: nobody aborts what is another's."""

    def __init__(self) -> None:
        self._found: dict[Key, Abortable] = {}

    @contextmanager
    def track(self, principal: Principal, request_id: str) -> Iterator[Abortable]:
        """Let this principal abort what is done inside.

        Raises:
            InvalidRequestError: a request of that id runs already.
        """
        abortable, key = Abortable(), _key(principal, request_id)
        if request_id and self._found.setdefault(key, abortable) is not abortable:
            raise InvalidRequestError(
                f"a request with the id '{request_id}' runs already", param="request_id"
            )
        try:
            yield abortable
        finally:
            if request_id:
                del self._found[key]

    def abort(self, principal: Principal, request_ids: Iterable[str]) -> None:
        """End what runs under these ids; those that do not are none of our business."""
        for request_id in request_ids:
            if (found := self._found.get(_key(principal, request_id))) is not None:
                found.abort()


def _key(principal: Principal, request_id: str) -> Key:
    return principal.provider, principal.tenant, principal.subject, request_id
