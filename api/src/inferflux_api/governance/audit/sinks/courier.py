"""Carries records to a sink, without anybody waiting for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from inferflux_api.governance.audit.records import Entry
from inferflux_api.governance.audit.sinks.sink import Sink, SinkUnavailableError

__all__ = ["Courier"]

logger = logging.getLogger("inferflux.audit")

_MAX_BYTES: Final = 64 * 1024 * 1024
_BATCH: Final = 256
_BATCH_BYTES: Final = 1024 * 1024
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_LAST_SECONDS: Final = 2.0


class Courier(threading.Thread):
    """A bounded queue and the thread that empties it, in batches, with growing pauses after failures.

    Args:
        name: for the metrics and the log.
        sink: where to.
        max_queue: records that may wait; together they are never more than 64 MiB.
        on_drop: is told how many records were dropped.
    """

    def __init__(
        self, name: str, sink: Sink, max_queue: int, on_drop: Callable[[float], None]
    ) -> None:
        super().__init__(name=f"audit-{name}", daemon=True)
        self.label = name
        self._sink = sink
        self._max_queue = max_queue
        self._on_drop = on_drop
        self._queue: deque[Entry] = deque()
        self._bytes = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._ends_at: float | None = None

    def offer(self, entry: Entry) -> None:
        """Take a record along, unless too many wait already."""
        size = len(entry.line)
        with self._changed:
            if len(self._queue) < self._max_queue and self._bytes + size <= _MAX_BYTES:
                self._queue.append(entry)
                self._bytes += size
                self._changed.notify()
                return
        self._drop(1)

    def take_dropped(self) -> int:
        """How many were dropped since this was asked last."""
        with self._changed:
            count, self._dropped = self._dropped, 0
        return count

    def end(self) -> None:
        """Deliver what waits, within two seconds, then stop."""
        with self._changed:
            self._ends_at = time.monotonic() + _LAST_SECONDS
            self._changed.notify()

    def run(self) -> None:
        """Deliver until the end."""
        pause = 0.0
        while (batch := self._next()) and not self._pause(pause):
            try:
                self._drop(self._sink.send(batch))
            except (SinkUnavailableError, OSError) as error:
                if not pause:
                    logger.warning("audit: sink '%s' cannot be reached; it is retried", self.label)
                wanted = getattr(error, "retry_after", None)
                pause = min(wanted or max(_FIRST_WAIT, pause * 2), _LONGEST_WAIT)
            except Exception:
                logger.exception(
                    "audit: sink '%s' failed on records, which it will not get", self.name
                )
                self._remove(len(batch))
                self._drop(len(batch))
            else:
                pause = 0.0
                self._remove(len(batch))
        self._drop(len(self._queue))
        self._sink.close()

    def _next(self) -> list[Entry]:
        """What to send now; nothing at the end."""
        with self._changed:
            while not self._queue and self._ends_at is None:
                self._changed.wait()
            batch: list[Entry] = []
            size = 0
            for entry in self._queue:
                size += len(entry.line)
                if batch and (len(batch) == _BATCH or size > _BATCH_BYTES):
                    break
                batch.append(entry)
            return batch

    def _pause(self, seconds: float) -> bool:
        """Wait; true if the end comes first."""
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                now = time.monotonic()
                if self._ends_at is not None and now >= self._ends_at:
                    return True
                until = until if self._ends_at is None else min(until, now + _FIRST_WAIT / 5)
                if now >= until:
                    return False
                self._changed.wait(until - now)

    def _remove(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._bytes -= len(self._queue.popleft().line)

    def _drop(self, count: int) -> None:
        if count:
            with self._changed:
                self._dropped += count
            self._on_drop(count)
