"""What a sink is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from inferflux_api.governance.audit.records import Entry

__all__ = ["Sink", "SinkUnavailableError"]


class SinkUnavailableError(Exception):
    """It takes nothing just now.

    Attributes:
        retry_after: seconds to wait, if it said so.
    """

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__()
        self.retry_after = retry_after


class Sink(Protocol):
    """Takes records somewhere else. It is used by one thread, and may block."""

    def send(self, entries: Sequence[Entry]) -> int:
        """Send records, in order.

        Returns:
            How many it will never take.

        Raises:
            SinkUnavailableError, OSError: none arrived for certain; they may be sent again.
        """

    def close(self) -> None:
        """Release connections."""
