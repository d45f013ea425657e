"""Whether a log is what was written, and all of it."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from inferflux_api.governance.audit.files import beside, first_seq_of
from inferflux_api.governance.audit.keys import Verifier
from inferflux_api.governance.audit.problems import DamagedError
from inferflux_api.governance.audit.records import (
    CHECKPOINT,
    GENESIS,
    Entry,
    open_line,
    signed_part,
)

__all__ = ["Report", "Verification"]


class Report(msgspec.Struct, kw_only=True):
    """What was found.

    Attributes:
        status: `intact`, `broken` (changed, or records are missing), or `truncated` (the end is missing).
        records: how many are in order.
        first: number of the first.
        last: number of the last that is in order.
        signed: number of the last checkpoint; what follows it could still be replaced as a whole.
        expected: number of the last record, if a signed head says that there are more.
        problem: the first thing that is wrong.
        file: where.
        line: in which line of it, from 1.
    """

    status: str = "intact"
    records: int = 0
    first: int = 0
    last: int = 0
    signed: int = 0
    expected: int = 0
    problem: str = ""
    file: str = ""
    line: int = 0


class _BrokenError(Exception):
    """The chain ends here."""


class Verification:
    """Follows the chain through files, in order, up to the first thing that is wrong.

    Args:
        verifier: knows whose signatures count.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._report = Report()
        self._last: Entry | None = None
        self._first: Entry | None = None
        self._expired: tuple[int, str] | None = None
        self._torn = b""
        self._torn_at = ("", 0)
        self._complaint = ""
        self._head: Entry | None = None

    def run(self, files: list[Path]) -> Report:
        """Verify files.

        Raises:
            OSError: one cannot be read.
        """
        report = self._report
        try:
            self._read_head(files[-1])
            for path in files:
                # The newest may be gone from beside those that are full, or from beside its signature.
                if (len(files) == 1 and self._head is None) or path.exists():
                    self._file(path)
            self._end()
        except _BrokenError as error:
            report.problem = str(error)
            report.status = "truncated" if report.status == "truncated" else "broken"
        return report

    def _read_head(self, path: Path) -> None:
        """The last checkpoint, which is also kept beside the log."""
        try:
            line = beside(path, "head").read_bytes().removesuffix(b"\n")
        except FileNotFoundError:
            return
        self._report.file = str(beside(path, "head"))
        try:
            self._head = open_line(line)
            self._check_signature(self._head)
        except (DamagedError, _BrokenError) as error:
            raise _BrokenError(f"the checkpoint beside the log {error}") from error

    def _file(self, path: Path) -> None:
        report = self._report
        report.file, report.line = str(path), 0
        for line in _lines(path):
            report.line += 1
            try:
                entry = open_line(line.removesuffix(b"\n"))
                if not line.endswith(b"\n"):
                    raise DamagedError("is incomplete")
            except DamagedError as error:
                self._set_aside(line, error)
                continue
            self._check_place(entry, path)
            self._take(entry)

    def _set_aside(self, line: bytes, error: DamagedError) -> None:
        """A line that is no record may be the torn end of a crash, if the next record vouches for it."""
        if not self._torn:
            self._torn_at = (self._report.file, self._report.line)
            self._complaint = str(error)
        self._torn += line

    def _take(self, entry: Entry) -> None:
        record, report = entry.record, self._report
        if self._torn:
            torn = self._torn.removesuffix(b"\n")
            if record.event != "recovered" or sha256(torn).hexdigest() != record.digest:
                self._fail_torn()
            self._torn = b""
        if record.event == CHECKPOINT:
            self._check_signature(entry)
            report.signed = record.seq
        if record.event == "expired":
            self._expired = (record.last, record.digest)
        if self._head and record.seq == self._head.record.seq and entry.hash != self._head.hash:
            raise _BrokenError(f"record {record.seq} is not the one that was signed")
        self._first = self._first or entry
        self._last = entry
        report.first = self._first.record.seq
        report.last = record.seq
        report.records += 1

    def _check_place(self, entry: Entry, path: Path) -> None:
        record = entry.record
        if self._report.line == 1 and first_seq_of(path) not in (None, record.seq):
            raise _BrokenError(f"the file begins with record {record.seq}, against its name")
        if self._last is None:
            if record.seq == 1 and record.prev != GENESIS:
                raise _BrokenError("record 1 follows something")
            return
        expected = self._last.record.seq + 1
        if record.seq > expected:
            raise _BrokenError(f"records {expected} to {record.seq - 1} are missing")
        if record.seq < expected:
            raise _BrokenError(f"record {record.seq} stands where {expected} belongs")
        if record.prev != self._last.hash:
            raise _BrokenError(f"record {record.seq} does not follow the one before it")

    def _check_signature(self, entry: Entry) -> None:
        try:
            accepted = self._verifier.accepts(*signed_part(entry.line))
        except DamagedError as error:
            raise _BrokenError(str(error)) from error
        if entry.record.event != CHECKPOINT or not accepted:
            raise _BrokenError(f"record {entry.record.seq} is not signed by a key that was given")

    def _end(self) -> None:
        report = self._report
        if self._torn:
            if not self._torn.endswith(b"\n"):
                report.status = "truncated"
            self._fail_torn()
        if self._first is None:
            raise _BrokenError("there is no record")
        first = self._first.record
        deleted = (first.seq - 1, first.prev)
        if first.seq > 1 and self._expired != deleted:
            report.line = 0
            raise _BrokenError(f"records 1 to {first.seq - 1} are missing")
        if self._head is not None and report.last < self._head.record.seq:
            report.status, report.expected = "truncated", self._head.record.seq
            raise _BrokenError(f"records {report.last + 1} to {report.expected} are missing")
        if not report.signed:
            raise _BrokenError("nothing is signed")
        report.file, report.line = "", 0

    def _fail_torn(self) -> None:
        self._report.file, self._report.line = self._torn_at
        raise _BrokenError(f"the line {self._complaint}")


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file
