"""What the policy store asks of a place to keep things."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = [
    "KEPT",
    "MAX_BYTES",
    "ChangedMeanwhileError",
    "Entry",
    "Storage",
    "StorageError",
    "UnsafeError",
]

KEPT: Final = 50
"""How many superseded generations are kept."""

MAX_BYTES: Final = 64 * 1024 * 1024
"""Of one generation."""


class StorageError(Exception):
    """It cannot be reached, read or written just now; the message says why."""


class UnsafeError(StorageError):
    """What is there must not be used. `hint` says what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ChangedMeanwhileError(Exception):
    """What was to be replaced is no longer there: somebody else was quicker."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One generation, as it is kept."""

    generation: int
    data: bytes


class Storage(Protocol):
    """Keeps one document and those it superseded. All methods block; threads may call them.

    Attributes:
        label: for messages; it holds no password.
    """

    @property
    def label(self) -> str:
        """See above."""

    def revision(self) -> Hashable:
        """Something cheap to get that differs whenever the document does; None if there is none.

        Raises:
            StorageError: it cannot be had.
        """

    def load(self) -> bytes | None:
        """The document, or None if there is none and nothing says that there was.

        Raises:
            StorageError: it cannot be read.
        """

    def replace(self, before: Entry | None, after: Entry) -> None:
        """Put `after` in the place of `before`, which joins the superseded ones; whole or not at all.

        None stands for no document. Once this returns, the change survives a crash.

        Raises:
            ChangedMeanwhileError: the document is not `before`.
            StorageError: nothing was changed, unless all that failed was to confirm it.
        """

    def superseded(self) -> list[int]:
        """Generations that can be had from `load_superseded`, newest first.

        Raises:
            StorageError: they cannot be listed.
        """

    def load_superseded(self, generation: int) -> bytes | None:
        """One of them, or None.

        Raises:
            StorageError: it cannot be read.
        """

    def rewrite_superseded(self, entry: Entry) -> None:
        """Put other bytes in the place of one of them; for sealing it anew.

        Raises:
            StorageError: it cannot be written.
        """

    def close(self) -> None:
        """Let go of connections."""
