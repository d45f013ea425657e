"""The folder of block files: what is in it, and keeping it within its limit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inferflux_core.engine.kv.block_file import SUFFIX
from inferflux_core.engine.kv.blocks import DIGEST_BYTES
from inferflux_core.errors import StartupError

__all__ = ["BlockFolder"]

_LEFTOVER_SECONDS: Final = 600.0
_REFILL: Final = 0.9


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    name: bytes
    size: int
    last_used: float


class BlockFolder:
    """A folder with one subfolder per fingerprint; several processes may use it at once.

    Files are only ever added whole and removed whole, and whoever reads one checks it, so that nobody
    needs a lock. The limit holds for all subfolders together, as far as they have been looked at.

    Args:
        root: the folder; made if it is not there.
        fingerprint: whose blocks the caller reads and writes.
        max_bytes: size that all files may have.

    Raises:
        StartupError: the folder cannot be used.
    """

    def __init__(self, root: Path, fingerprint: bytes, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self.own = root / fingerprint.hex()
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.own.mkdir(exist_ok=True, mode=0o700)
            # Contents tell about prompts, and whoever may write here could put words into answers.
            self.own.chmod(0o700)
            probe = self.own / f"probe.{os.getpid()}.part"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StartupError(
                f"cannot keep keys and values in {root}: {error.strerror or error}",
                hint="set `runtime.nvme_offload.path` to a folder that this user may write to",
            ) from error
        self._remove_leftovers()
        self.size = sum(entry.size for entry in self._entries())

    def path(self, name: bytes) -> Path:
        """The file of a block."""
        return self.own / (name.hex() + SUFFIX)

    def names(self) -> Iterator[bytes]:
        """The blocks that have a file."""
        for entry in self._entries():
            if entry.path.parent == self.own:
                yield entry.name

    def touch(self, name: bytes) -> None:
        """Note that a block was used."""
        try:
            os.utime(self.path(name))
        except OSError:
            return

    def added(self, size: int) -> list[bytes]:
        """Note a new file of this size; returns own blocks that were removed to stay within the limit."""
        self.size += size
        return self._evict() if self.size > self._max_bytes else []

    def _evict(self) -> list[bytes]:
        entries = sorted(self._entries(), key=lambda entry: entry.last_used)
        self.size = sum(entry.size for entry in entries)
        removed = []
        for entry in entries:
            # A little more than is needed, or every further block would have to look through the folder.
            if self.size <= self._max_bytes * _REFILL:
                break
            try:
                entry.path.unlink(missing_ok=True)
            except OSError:
                continue
            self.size -= entry.size
            if entry.path.parent == self.own:
                removed.append(entry.name)
        return removed

    def _entries(self) -> Iterator[_Entry]:
        """Files that are named as those of blocks are; what else lies here is none of ours."""
        for file in self._root.glob("*/*" + SUFFIX):
            try:
                name = bytes.fromhex(file.stem)
                status = file.lstat()
            except (OSError, ValueError):
                continue
            if len(name) == DIGEST_BYTES:
                yield _Entry(file, name, status.st_size, status.st_mtime)

    def _remove_leftovers(self) -> None:
        """Remove what a process that died was writing; what another one writes just now is younger."""
        for file in self._root.glob("*/*.part"):
            try:
                if time.time() - file.stat().st_mtime > _LEFTOVER_SECONDS:
                    file.unlink(missing_ok=True)
            except OSError:
                continue
