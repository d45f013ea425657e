"""Blocks on disk: written behind the engine's back, and read ahead of it."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from inferflux_core.engine.kv.block_file import (
    BlockFileError,
    file_size,
    read_block,
    write_block,
)
from inferflux_core.engine.kv.blocks import BLOCK_SIZE
from inferflux_core.engine.kv.folder import BlockFolder
from inferflux_core.processors import use_all_cores

__all__ = ["DiskTier", "Loaded"]

logger = logging.getLogger("inferflux.kv")

_MAX_QUEUED_BYTES: Final = 256 * 1024 * 1024
_PAUSE_SECONDS: Final = 60.0
_FLUSH_SECONDS: Final = 8.0
"""Less than an engine process has before it is killed."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a wish to load blocks: the contents of as many, from the first one, as are sound."""

    request_id: int
    contents: list[bytes]


class DiskTier:
    """Blocks by name, in files. All files are touched by one thread; the caller never waits for it.

    Args:
        root: folder of all files, which may be shared with other processes.
        state_fingerprint: says who can use the contents.
        max_bytes: limit of the folder.

    Raises:
        StartupError: the folder cannot be used.
    """

    def __init__(self, root: Path, state_fingerprint: str, max_bytes: int) -> None:
        text = f"{state_fingerprint}|{BLOCK_SIZE}"
        self._fingerprint = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._folder = BlockFolder(root, self._fingerprint, max_bytes)
        self._names = set(self._folder.names())
        self._reads: deque[tuple[int, list[bytes]]] = deque()
        self._writes: deque[tuple[bytes, bytes]] = deque()
        self._queued_bytes = 0
        self._work = threading.Condition()
        self._loaded: deque[Loaded] = deque()
        self._arrived = threading.Event()
        self._closing = False
        self._paused_until = 0.0
        self._last_report = -_PAUSE_SECONDS
        self.hits = 0
        self.errors = 0
        self._thread = threading.Thread(target=self._run, name="kv-disk", daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """Bytes of all files in the folder."""
        return self._folder.size

    def __contains__(self, name: bytes) -> bool:
        return name in self._names

    def store(self, name: bytes, content: bytes) -> None:
        """Write a block some time soon, unless the disk has more than it can do already."""
        if name in self._names or time.monotonic() < self._paused_until:
            return
        with self._work:
            if self._queued_bytes + len(content) > _MAX_QUEUED_BYTES:
                return
            self._queued_bytes += len(content)
            self._writes.append((name, content))
            self._work.notify()

    def load(self, request_id: int, names: Sequence[bytes]) -> None:
        """Read blocks; what comes of it is handed out by `poll`."""
        with self._work:
            self._reads.append((request_id, list(names)))
            self._work.notify()

    def poll(self) -> list[Loaded]:
        """What has been loaded since the last call."""
        # First, as what arrives meanwhile must not go unnoticed.
        self._arrived.clear()
        return [self._loaded.popleft() for _ in range(len(self._loaded))]

    def wait(self, timeout: float) -> None:
        """Sleep until `poll` has something, at most `timeout` seconds."""
        self._arrived.wait(timeout)

    def close(self) -> None:
        """Write what is queued, within reason, and stop."""
        with self._work:
            self._closing = True
            self._work.notify()
        self._thread.join(_FLUSH_SECONDS)
        if self._thread.is_alive():
            logger.warning("%d blocks did not get to disk in time", len(self._writes))

    def _run(self) -> None:
        use_all_cores()
        while (job := self._next()) is not None:
            try:
                job()
            except Exception as error:
                # If this thread died, requests would wait for ever.
                self._report("file work failed", error)

    def _next(self) -> Callable[[], None] | None:
        """What to do next; waits for it. None when everything is done and the tier closes."""
        with self._work:
            while not (self._reads or self._writes or self._closing):
                self._work.wait()
            # Somebody waits for what is read; nobody does for what is written.
            if self._reads:
                return partial(self._read, *self._reads.popleft())
            if self._writes:
                name, content = self._writes.popleft()
                self._queued_bytes -= len(content)
                return partial(self._write, name, content)
            return None

    def _read(self, request_id: int, names: Sequence[bytes]) -> None:
        contents: list[bytes] = []
        try:
            self._read_run(names, contents)
        finally:
            self.hits += len(contents)
            self._loaded.append(Loaded(request_id, contents))
            self._arrived.set()

    def _read_run(self, names: Sequence[bytes], contents: list[bytes]) -> None:
        for name in names:
            try:
                contents.append(read_block(self._folder.path(name), self._fingerprint, name))
            except FileNotFoundError:
                # Another process needed the room.
                self._names.discard(name)
                break
            except (OSError, BlockFileError) as error:
                self._discard(name, error)
                break
            self._folder.touch(name)

    def _discard(self, name: bytes, error: Exception) -> None:
        self._report("ignored the file of a block, which is computed again", error)
        self._names.discard(name)
        try:
            self._folder.path(name).unlink(missing_ok=True)
        except OSError as problem:
            self._report("cannot remove it", problem)

    def _write(self, name: bytes, content: bytes) -> None:
        if name in self._names:
            return
        try:
            write_block(self._folder.path(name), self._fingerprint, name, content)
        except OSError as error:
            # A full disk seldom has room a moment later.
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            self._report("cannot write a block to disk, trying again later", error)
            return
        self._names.add(name)
        self._names.difference_update(self._folder.added(file_size(content)))

    def _report(self, message: str, error: Exception) -> None:
        """Count a problem; say it once in a while."""
        self.errors += 1
        now = time.monotonic()
        if now - self._last_report >= _PAUSE_SECONDS:
            self._last_report = now
            logger.warning("%s: %s (%d problems so far)", message, error, self.errors)
