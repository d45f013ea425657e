"""Conversations that go on under the id of their last answer."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from inferflux_core.auth import Principal
from inferflux_core.errors import NotFoundError

__all__ = ["ConversationMemory"]

_MAX_ENTRIES: Final = 10_000
_MAX_BYTES: Final = 64 * 1024 * 1024
_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """A conversation up to an answer."""

    owner: tuple[str, str]
    messages: bytes
    kept_at: float


class ConversationMemory:
    """Keeps conversations in this process, the last ones of them, for a day.

    What is asked for by another than the one whose conversation it is does not exist.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def keep(self, principal: Principal, messages: list[dict[str, Any]]) -> str:
        """Remember a conversation; returns the id of its last answer."""
        response_id = f"resp_{secrets.token_hex(24)}"
        entry = _Entry(_owner(principal), msgspec.json.encode(messages), time.monotonic())
        self._entries[response_id] = entry
        self._bytes += len(entry.messages)
        while len(self._entries) > _MAX_ENTRIES or self._bytes > _MAX_BYTES:
            self._forget(next(iter(self._entries)))
        return response_id

    def recall(self, principal: Principal, response_id: str) -> list[dict[str, Any]]:
        """The conversation up to an answer.

        Raises:
            NotFoundError: there is none, or not any more.
        """
        entry = self._entries.get(response_id)
        if entry is not None and entry.kept_at + _SECONDS < time.monotonic():
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


def _owner(principal: Principal) -> tuple[str, str]:
    return principal.tenant, principal.subject
