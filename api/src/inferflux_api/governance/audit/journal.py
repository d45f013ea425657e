"""The chain on disk: one process appends to it, a line with each write, and starts new files."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from inferflux_api.governance.audit.files import (
    beside,
    open_private,
    replace_file,
    rotated_files,
    rotated_name,
    sync_folder,
)
from inferflux_api.governance.audit.keys import Signer, load_signer
from inferflux_api.governance.audit.problems import AuditUnavailableError, DamagedError, reason_of
from inferflux_api.governance.audit.records import (
    CHECKPOINT,
    GENESIS,
    Entry,
    Record,
    open_line,
    seal,
)
from inferflux_api.governance.audit.tail import Tail, read_tail
from inferflux_core.config.schema import AuditConfig
from inferflux_core.errors import ConfigError

__all__ = ["Journal"]

logger = logging.getLogger("inferflux.audit")

_DAY: Final = 86400.0
_APPENDING: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class Journal:
    """Appends records. Safe to use from several threads.

    Args:
        path: the file; `PATH.lock`, `.head`, `.key` and `.pub` lie beside it, and full files.
        config: how to keep it.
        on_entry: is told of every record, in their order; must not block or raise.

    Raises:
        ConfigError: another server writes there, or the files cannot be used.
    """

    def __init__(self, path: Path, config: AuditConfig, on_entry: Callable[[Entry], None]) -> None:
        self.path = path
        self._config = config
        self._on_entry = on_entry
        self._mutex = threading.Lock()
        self._seq, self._hash = 0, GENESIS
        self._size, self._first, self._day = 0, 1, time.time() // _DAY
        self._signed = 0
        self._failure: str | None = None
        self._file: int | None = None
        self._lock: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
            given = Path(config.signing_key) if config.signing_key else None
            self._signer: Signer = load_signer(path, given)
            self._open()
        except (OSError, AuditUnavailableError) as error:
            self._release()
            reason = reason_of(error) if isinstance(error, OSError) else error.message
            raise ConfigError(
                f"audit.path: cannot append to {path}: {reason}",
                hint="choose a writable file, or remove `audit.path`",
            ) from error
        except BaseException:
            self._release()
            raise

    @property
    def closed(self) -> bool:
        """Whether nothing is written any more."""
        return self._file is None

    @property
    def unsigned(self) -> int:
        """How many records follow the last checkpoint."""
        return self._seq - self._signed

    def append(self, event: str, *, durably: bool = False, **fields: Any) -> None:
        """Write a record.

        Args:
            event: what happened.
            durably: force it to disk, unless the configuration says never.
            fields: of `Record`.

        Raises:
            AuditUnavailableError: it is not in the log.
        """
        with self._mutex:
            now = time.time()
            self._check()
            entry = self._link(event, now, fields)
            if self._is_full(len(entry.line) + 1, now):
                self._rotate(now)
                entry = self._link(event, now, fields)
            self._write(entry)
            if self._config.fsync == "always" or (durably and self._config.fsync == "interval"):
                self._sync(self._descriptor)

    def sync(self) -> None:
        """Force what was written to disk, without keeping others from writing meanwhile.

        Raises:
            AuditUnavailableError: it is not certain to be there.
        """
        with self._mutex:
            self._check()
            descriptor = os.dup(self._descriptor)
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)

    def checkpoint(self) -> None:
        """Sign everything so far, and keep the signature beside the log, too.

        Raises:
            AuditUnavailableError: it cannot be signed or kept.
        """
        with self._mutex:
            self._check()
            entry = self._sign(time.time())
        if self._config.fsync != "never":
            self.sync()
        try:
            durably = self._config.fsync != "never"
            replace_file(beside(self.path, "head"), entry.line + b"\n", durably=durably)
        except OSError as error:
            raise AuditUnavailableError(reason_of(error)) from error

    def expire(self) -> None:
        """Delete full files whose last record is older than is wanted, and note it.

        Raises:
            AuditUnavailableError: it cannot be noted; then the file stays.
        """
        if self._config.keep_days is None:
            return
        oldest = time.time() - self._config.keep_days * _DAY
        for file in rotated_files(self.path):
            try:
                last = read_tail(file).last
                if last is None or last.record.time >= oldest:
                    return
                self.append(
                    "expired",
                    durably=True,
                    detail=file.name,
                    last=last.record.seq,
                    digest=last.hash,
                )
                file.unlink()
            except (OSError, ConfigError) as error:
                logger.error("audit: %s cannot be deleted: %s", file, error)
                return

    def close(self) -> None:
        """Sign, and let the files go. Idempotent.

        Raises:
            AuditUnavailableError: the last records could not be written.
        """
        if self._file is None:
            return
        try:
            self.append("stopped")
            self.checkpoint()
        finally:
            self._release()

    @property
    def _descriptor(self) -> int:
        if self._file is None:
            raise AuditUnavailableError("it is closed")
        return self._file

    def _release(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _take_lock(self) -> int:
        lock = open_private(beside(self.path, "lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigError(
                f"audit.path: another server writes to {self.path}",
                hint="give each server a file of its own",
            ) from None
        return lock

    def _open(self) -> None:
        """Go on where the last process stopped, however it did."""
        tail = self._find_end()
        self._file = open_private(self.path, _APPENDING)
        if tail.torn:
            self._seal_torn(tail.torn)
        lost = self._lost()
        if lost:
            # Their numbers are not given away again: they were on disk, and signed.
            logger.error("audit: records up to %d are missing from %s", lost, self.path)
            self._seq = lost
            self.append("gap", last=lost, durably=True)
        self.append("started", detail=self._signer.key_id, count=os.getpid(), durably=True)
        self.checkpoint()

    def _find_end(self) -> Tail:
        tail = Tail(None, None, b"", 0)
        for file in [self.path, *reversed(rotated_files(self.path))]:
            try:
                found = read_tail(file)
            except FileNotFoundError:
                continue
            if file == self.path:
                tail = found
            if found.last is not None:
                last = found.last
                self._seq, self._hash = last.record.seq, last.hash
                self._first = self._seq + 1
                if file == self.path:
                    self._first = found.first or self._seq
                    self._day = last.record.time // _DAY
                break
        self._size = tail.size
        return tail

    def _seal_torn(self, torn: bytes) -> None:
        logger.warning("audit: the last line of %s was torn; it is sealed", self.path)
        self._size += os.write(self._descriptor, b"\n")
        with contextlib.suppress(DamagedError):
            # All that is missing was the line end.
            entry = open_line(torn)
            self._seq, self._hash = entry.record.seq, entry.hash
            return
        self.append("recovered", count=len(torn), digest=sha256(torn).hexdigest(), durably=True)

    def _lost(self) -> int:
        """Number of the last record that was signed, if the log ends before it."""
        try:
            head = open_line(beside(self.path, "head").read_bytes().rstrip(b"\n")).record.seq
        except (OSError, DamagedError):
            return 0
        return head if head > self._seq else 0

    def _check(self) -> None:
        """Nothing is written to a file that is not as it was left."""
        if self._failure is not None:
            raise AuditUnavailableError(self._failure)
        here = os.fstat(self._descriptor)
        try:
            there = self.path.stat()
        except OSError as error:
            raise AuditUnavailableError(f"{self.path.name}: {reason_of(error)}") from error
        if here.st_size != self._size or there.st_ino != here.st_ino:
            raise AuditUnavailableError(
                "its file was changed by somebody else: verify it, then restart"
            )

    def _link(self, event: str, now: float, fields: dict[str, Any]) -> Entry:
        record = Record(seq=self._seq + 1, time=now, event=event, prev=self._hash, **fields)
        try:
            return seal(record)
        except UnicodeEncodeError:
            # JSON can escape what is no character; a name from a token may hold such a thing.
            written = {name: _encodable(value) for name, value in fields.items()}
            return seal(msgspec.structs.replace(record, **written))

    def _is_full(self, added: int, now: float) -> bool:
        if not self._size:
            return False
        return self._size + added > self._config.max_file_bytes or now // _DAY > self._day

    def _sign(self, now: float) -> Entry:
        record = Record(
            seq=self._seq + 1,
            time=now,
            event=CHECKPOINT,
            detail=self._signer.key_id,
            prev=self._hash,
        )
        entry = seal(record, self._signer.sign)
        self._write(entry)
        self._signed = self._seq
        return entry

    def _write(self, entry: Entry) -> None:
        line = entry.line + b"\n"
        try:
            written = os.write(self._descriptor, line)
            reason = "only a part of the record was written"
        except OSError as error:
            written, reason = 0, reason_of(error)
        if written != len(line):
            if written:
                # Nobody was told that it is there. If this fails, too, `_check` finds the file changed.
                os.ftruncate(self._descriptor, self._size)
            raise AuditUnavailableError(reason)
        self._size += written
        self._seq, self._hash = entry.record.seq, entry.hash
        self._on_entry(entry)

    def _sync(self, descriptor: int) -> None:
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            # What failed once is marked clean: a second attempt would succeed without doing anything.
            self._failure = f"it could not be forced to disk: {reason_of(error)}; restart"
            raise AuditUnavailableError(self._failure) from error

    def _rotate(self, now: float) -> None:
        self._sign(now)
        if self._config.fsync != "never":
            self._sync(self._descriptor)
        full = rotated_name(self.path, self._first)
        try:
            if full.exists():
                raise FileExistsError(17, f"{full.name} exists already")
            self.path.rename(full)
            try:
                file = open_private(self.path, _APPENDING | os.O_EXCL)
            except OSError:
                full.rename(self.path)
                raise
            sync_folder(self.path.parent)
        except OSError as error:
            raise AuditUnavailableError(reason_of(error)) from error
        os.close(self._descriptor)
        self._file, self._size = file, 0
        self._first, self._day = self._seq + 1, now // _DAY


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
