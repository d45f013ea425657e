"""What has to be done for a log from time to time, beside those who write to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from inferflux_api.governance.audit.journal import Journal
from inferflux_api.governance.audit.problems import AuditUnavailableError

__all__ = ["Keeper"]

logger = logging.getLogger("inferflux.audit")

_TICK_SECONDS: Final = 1.0
_CHECKPOINT_RECORDS: Final = 1000
_CHECKPOINT_SECONDS: Final = 60.0
_EXPIRE_SECONDS: Final = 3600.0


class Keeper(threading.Thread):
    """Forces records to disk every second, signs them, and deletes old files.

    Args:
        journal: to be kept.
        syncs: whether to force to disk what was written.
        also: what else is to be written every minute, and at the end.
    """

    def __init__(self, journal: Journal, *, syncs: bool, also: Callable[[], None]) -> None:
        super().__init__(name="audit-keeper", daemon=True)
        self._journal = journal
        self._syncs = syncs
        self._also = also
        self._ending = threading.Event()
        self._signed_at = time.monotonic()
        self._expired_at = -_EXPIRE_SECONDS
        self._complained = False

    def run(self) -> None:
        """Work until the end."""
        while not self._ending.wait(_TICK_SECONDS):
            try:
                self._tick(time.monotonic())
            except AuditUnavailableError as error:
                if not self._complained:
                    logger.error("%s", error.message)
                self._complained = True
            else:
                self._complained = False

    def stop(self) -> None:
        """End it, and wait until it has."""
        self._ending.set()
        self.join()

    def _tick(self, now: float) -> None:
        due = now - self._signed_at >= _CHECKPOINT_SECONDS
        if due:
            self._also()
        unsigned = self._journal.unsigned
        if unsigned >= _CHECKPOINT_RECORDS or (unsigned and due):
            self._journal.checkpoint()
            self._signed_at = now
        elif unsigned and self._syncs:
            self._journal.sync()
        if now - self._expired_at >= _EXPIRE_SECONDS:
            self._expired_at = now
            self._journal.expire()
