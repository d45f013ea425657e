"""Reading a log: all its files in order, and what is asked of it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inferflux_api.governance.audit.files import first_seq_of, rotated_files
from inferflux_api.governance.audit.problems import DamagedError
from inferflux_api.governance.audit.records import Entry, open_line

__all__ = ["Query", "files_of", "follow", "last_entries", "matching"]

_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Query:
    """What records must be like; empty matches everything. Times are seconds since 1970."""

    subject: str = ""
    tenant: str = ""
    model: str = ""
    event: str = ""
    since: float = 0.0
    until: float = float("inf")

    def matches(self, entry: Entry) -> bool:
        """Whether a record is like that."""
        record = entry.record
        wanted = (
            (self.subject, record.subject),
            (self.tenant, record.tenant),
            (self.model, record.model or record.target),
            (self.event, record.event),
        )
        in_time = self.since <= record.time < self.until
        return in_time and all(not value or value == found for value, found in wanted)


_EVERYTHING: Final = Query()


def files_of(paths: list[Path]) -> list[Path]:
    """The files that paths mean, oldest first: a log brings its full files along."""
    found: list[Path] = []
    for path in paths:
        full = [] if first_seq_of(path) is not None else rotated_files(path)
        found += [*full, path]
    return list(dict.fromkeys(found))


def matching(files: list[Path], query: Query) -> Iterator[Entry]:
    """The records that match, oldest first; what is no record is left to `verify`.

    Raises:
        OSError: a file cannot be read.
    """
    for path in files:
        with path.open("rb") as file:
            yield from _entries(file, query)


def last_entries(files: list[Path], count: int, query: Query = _EVERYTHING) -> list[Entry]:
    """The last records that match, oldest first.

    Raises:
        OSError: a file cannot be read.
    """
    found: deque[Entry] = deque(maxlen=count)
    for path in reversed(files):
        here = deque(matching([path], query), maxlen=count - len(found))
        found.extendleft(reversed(here))
        if len(found) == count:
            break
    return list(found)


def follow(path: Path, seq: int) -> Iterator[Entry]:
    """The records after number `seq`, for ever, whatever files they come in.

    Raises:
        OSError: a file cannot be read.
    """
    while True:
        with path.open("rb") as file:
            rest = b""
            while True:
                renamed = not _is_at(file.fileno(), path)
                rest += file.read()
                lines, _, rest = rest.rpartition(b"\n")
                for entry in _entries(lines.split(b"\n"), _EVERYTHING):
                    if entry.record.seq > seq:
                        seq = entry.record.seq
                        yield entry
                # All that was written before it got another name has been read by now.
                if renamed:
                    break
                time.sleep(_POLL_SECONDS)
        # Files may have begun and become full meanwhile.
        for entry in matching(_full_after(path, seq), _EVERYTHING):
            seq = entry.record.seq
            yield entry


def _full_after(path: Path, seq: int) -> list[Path]:
    return [file for file in rotated_files(path) if (first_seq_of(file) or 0) > seq]


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return True


def _entries(lines: Iterator[bytes] | list[bytes], query: Query) -> Iterator[Entry]:
    for line in lines:
        try:
            entry = open_line(line.removesuffix(b"\n"))
        except DamagedError:
            continue
        if query.matches(entry):
            yield entry
