"""A policy in a file, and what it superseded in a folder beside it.

A file is replaced as a whole, under a lock, and only by whoever has read what is there. A crash at any
point leaves the old policy or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import stat
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Final

from inferflux_api.governance.policy.storages.storage import (
    KEPT,
    MAX_BYTES,
    ChangedMeanwhileError,
    Entry,
    StorageError,
    UnsafeError,
)

__all__ = ["FileStorage"]

_BEGINNING: Final = 4096
_GENERATION: Final = re.compile(r"[0-9]{1,18}")


class FileStorage:
    """Keeps a policy at `path`.

    Beside it live `PATH.lock`, the folder `PATH.history` and, during a change, `PATH.tmp`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._history = Path(f"{path}.history")

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    def revision(self) -> Hashable:
        """What the file is, and how it begins, which is where its generation stands.

        Times of files are too coarse to tell two changes in a row apart.
        """
        with self._failures("read"):
            try:
                with open(self.path, "rb", buffering=0, opener=_open_private) as file:
                    status = os.fstat(file.fileno())
                    return status.st_ino, status.st_size, status.st_mode, file.read(_BEGINNING)
            except FileNotFoundError:
                return None

    def load(self) -> bytes | None:
        """The file's content.

        Raises:
            UnsafeError: others could have written or read it, or it is missing though it was there.
            StorageError: it cannot be read.
        """
        with self._failures("read"):
            try:
                data = _read(self.path)
            except FileNotFoundError:
                if generations := self.superseded():
                    raise UnsafeError(
                        f"is missing, but {self._history} has generation {generations[0]}",
                        "restore the file from a backup; if the store is to begin anew, move that "
                        "folder away",
                    ) from None
                return None
            _check_folder(self.path.parent)
            return data

    def replace(self, before: Entry | None, after: Entry) -> None:
        """Replace the file; what it held goes to the history first."""
        with self._failures("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _check_folder(self.path.parent)
            with self._locked():
                if self.load() != (before.data if before else None):
                    raise ChangedMeanwhileError
                if before is not None:
                    self._write(self._superseded(before.generation), before.data)
                self._write(self.path, after.data)
                with contextlib.suppress(OSError):
                    for old in self.superseded()[KEPT:]:
                        self._superseded(old).unlink()

    def superseded(self) -> list[int]:
        """Generations in the folder."""
        with self._failures("read"):
            try:
                names = [entry.name for entry in self._history.iterdir()]
            except FileNotFoundError:
                return []
            return sorted(
                (int(name) for name in names if _GENERATION.fullmatch(name)), reverse=True
            )

    def load_superseded(self, generation: int) -> bytes | None:
        """One of them."""
        with self._failures("read"):
            try:
                return _read(self._superseded(generation))
            except FileNotFoundError:
                return None

    def rewrite_superseded(self, entry: Entry) -> None:
        """Write one of them anew."""
        with self._failures("written"), self._locked():
            self._write(self._superseded(entry.generation), entry.data)

    def close(self) -> None:
        """Nothing is held."""

    def _superseded(self, generation: int) -> Path:
        return self._history / str(generation)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = Path(f"{self.path}.tmp")
        # Left by a crash: nobody else writes one while we hold the lock.
        temporary.unlink(missing_ok=True)
        try:
            with open(temporary, "xb", opener=_open_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Not on the file itself: that one is replaced.
        with open(f"{self.path}.lock", "ab", opener=_open_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _failures(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot be {done}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    if path.is_symlink():
        raise UnsafeError("is a symbolic link", "name the file itself")
    with open(path, "rb", opener=_open_private) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeError("is not a regular file")
        if status.st_mode & 0o077:
            raise UnsafeError(
                "can be used by other accounts", f"run: chmod 600 {shlex.quote(str(path))}"
            )
        if status.st_size > MAX_BYTES:
            raise UnsafeError(f"is larger than {MAX_BYTES} bytes")
        return file.read()


def _check_folder(folder: Path) -> None:
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UnsafeError("lies in a folder that every account can change", "choose another")


def _open_private(path: str, flags: int) -> int:
    # O_NONBLOCK: a FIFO must be refused, not waited for.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
