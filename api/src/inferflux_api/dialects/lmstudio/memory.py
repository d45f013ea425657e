"""Conversations that go on under the id of their last answer."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inferflux_core.auth import Principal
from inferflux_core.errors import NotFoundError

__all__ = ["ConversationMemory"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A conversation up to an answer."""

    owner: tuple[str, str, str]
    messages: bytes
    kept_at: float


@dataclass(slots=True)
class ConversationMemory:
    """Keeps conversations in this process, the last ones of them, for a while.

    What is asked for by another than the one whose conversation it is does not exist.

    Attributes:
        max_entries: that are kept.
        max_bytes: that they take.
        seconds: for which one is kept.
        clock: seconds that only grow.
    """

    max_entries: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    seconds: float = 24 * 3600.0
    clock: Callable[[], float] = time.monotonic
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict, init=False)
    _bytes: int = field(default=0, init=False)

    def keep(self, principal: Principal, messages: list[dict[str, Any]]) -> str:
        """Remember a conversation; returns the id of its last answer."""
        response_id = f"resp_{secrets.token_hex(24)}"
        entry = _Entry(_owner(principal), msgspec.json.encode(messages), self.clock())
        self._entries[response_id] = entry
        self._bytes += len(entry.messages)
        while len(self._entries) > self.max_entries or self._bytes > self.max_bytes:
            self._forget(next(iter(self._entries)))
        return response_id

    def recall(self, principal: Principal, response_id: str) -> list[dict[str, Any]]:
        """The conversation up to an answer.

        Raises:
            NotFoundError: there is none, or not any more.
        """
        entry = self._entries.get(response_id)
        if entry is not None and entry.kept_at + self.seconds < self.clock():
            self._forget(response_id)
            entry = None
        if entry is None or entry.owner != _owner(principal):
            raise NotFoundError(
                f"there is no response '{response_id[:64]}', or not any more",
                param="previous_response_id",
            )
        messages: list[dict[str, Any]] = msgspec.json.decode(entry.messages)
        return messages

    def _forget(self, response_id: str) -> None:
        self._bytes -= len(self._entries.pop(response_id).messages)


def _owner(principal: Principal) -> tuple[str, str, str]:
    return principal.tenant, principal.provider, principal.subject
