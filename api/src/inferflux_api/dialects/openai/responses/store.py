"""Responses that can be asked for again, or continued."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from inferflux_api.dialects.openai.responses.items import Item
from inferflux_core.errors import InvalidRequestError, NotFoundError

__all__ = ["PreviousResponseError", "ResponseStore", "StoredResponse", "find_item", "history"]

MAX_RESPONSES: Final = 10_000
MAX_BYTES: Final = 128 * 1024 * 1024
SECONDS_KEPT: Final = 24 * 3600.0
_OVERHEAD: Final = 1024
"""Bytes that an entry takes beside its contents."""


class PreviousResponseError(InvalidRequestError):
    """The response to continue is not known."""

    code = "previous_response_not_found"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What is kept of a response.

    Attributes:
        id: of the response.
        tenant: whose it is.
        body: the response as JSON.
        input: the items of the request as JSON, without those of earlier responses.
        previous: the response that it continues.
        items: ids of the items of input and output.
        events: the stream of a response that ran in the background, if it was to be streamed.
    """

    id: str
    tenant: str
    body: bytes
    input: bytes
    previous: str | None = None
    items: tuple[str, ...] = ()
    events: bytes = b""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.body) + len(self.input) + len(self.events) + _OVERHEAD

    def all_items(self) -> list[Item]:
        """Items of the request, then those of the answer."""
        given: list[Item] = msgspec.json.decode(self.input)
        written: list[Item] = msgspec.json.decode(self.body)["output"]
        return given + written


@dataclass(slots=True)
class ResponseStore:
    """Keeps responses in memory, each for its tenant alone.

    A restart of the server loses all of them: `previous_response_id` is then refused with
    `previous_response_not_found`, and clients have to send the conversation again. The same goes for
    responses that were pushed out by newer ones, or are too old. Which go first: those that nobody asked
    for or continued the longest.

    Attributes:
        max_responses: that are kept.
        max_bytes: that they take.
        seconds: for which one is kept after it was last asked for.
        clock: seconds that only grow.
    """

    max_responses: int = MAX_RESPONSES
    max_bytes: int = MAX_BYTES
    seconds: float = SECONDS_KEPT
    clock: Callable[[], float] = time.monotonic
    size: int = field(default=0, init=False)
    _entries: OrderedDict[tuple[str, str], tuple[float, StoredResponse]] = field(
        default_factory=OrderedDict, init=False
    )
    _by_item: dict[tuple[str, str], str] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, stored: StoredResponse) -> None:
        """Keep a response."""
        self._forget((stored.tenant, stored.id))
        self._entries[stored.tenant, stored.id] = (self.clock(), stored)
        self.size += stored.size
        for item in stored.items:
            self._by_item[stored.tenant, item] = stored.id
        while len(self._entries) > self.max_responses or self.size > self.max_bytes:
            self._forget(next(iter(self._entries)))
        self._drop_old()

    def find(self, tenant: str, name: str) -> StoredResponse | None:
        """The tenant's response of that name, if it is there; it counts as used."""
        self._drop_old()
        entry = self._entries.get((tenant, name))
        if entry is None:
            return None
        self._entries[tenant, name] = (self.clock(), entry[1])
        self._entries.move_to_end((tenant, name))
        return entry[1]

    def get(self, tenant: str, name: str) -> StoredResponse:
        """The same.

        Raises:
            NotFoundError: there is none.
        """
        found = self.find(tenant, name)
        if found is None:
            raise NotFoundError(f"there is no response '{name}'", param="response_id")
        return found

    def delete(self, tenant: str, name: str) -> None:
        """Forget a response.

        Raises:
            NotFoundError: there is none.
        """
        self.get(tenant, name)
        self._forget((tenant, name))

    def with_item(self, tenant: str, item: str) -> StoredResponse | None:
        """The tenant's response that an item belongs to."""
        name = self._by_item.get((tenant, item))
        return self.find(tenant, name) if name is not None else None

    def _drop_old(self) -> None:
        limit = self.clock() - self.seconds
        while self._entries and next(iter(self._entries.values()))[0] < limit:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: tuple[str, str]) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        stored = entry[1]
        self.size -= stored.size
        for item in stored.items:
            if self._by_item.get((stored.tenant, item)) == stored.id:
                del self._by_item[stored.tenant, item]


def history(stores: Sequence[ResponseStore], tenant: str, name: str | None) -> list[Item]:
    """The items of a response and of all that it continues, the oldest first.

    Args:
        stores: where to look, in this order.
        tenant: who asks.
        name: of the response.

    Raises:
        PreviousResponseError: one of them is not there.
    """
    turns = list(_chain(stores, tenant, name))
    return [item for turn in reversed(turns) for item in turn.all_items()]


def find_item(stores: Sequence[ResponseStore], tenant: str, item: str) -> Item | None:
    """The tenant's item of that name, if it is there."""
    for store in stores:
        if (stored := store.with_item(tenant, item)) is not None:
            return next(each for each in stored.all_items() if each["id"] == item)
    return None


def _chain(
    stores: Sequence[ResponseStore], tenant: str, name: str | None
) -> Iterator[StoredResponse]:
    while name is not None:
        stored = next((s for store in stores if (s := store.find(tenant, name))), None)
        if stored is None:
            raise PreviousResponseError(
                f"there is no response '{name}' to continue: it has not ended, was not stored or is gone; "
                "send the whole conversation as input",
                param="previous_response_id",
            )
        yield stored
        name = stored.previous
