"""Where a log ends: what its next record follows."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from inferflux_api.governance.audit.files import open_private
from inferflux_api.governance.audit.problems import DamagedError
from inferflux_api.governance.audit.records import Entry, open_line
from inferflux_core.errors import ConfigError

__all__ = ["Tail", "read_tail"]


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of one file.

    Attributes:
        first: number of the file's first record, if it has one.
        last: the last whole record, if there is one.
        torn: bytes after it, left by a crash in the middle of a line.
        size: of the file, in bytes.
    """

    first: int | None
    last: Entry | None
    torn: bytes
    size: int


def read_tail(path: Path) -> Tail:
    """Find the last record of a file, from behind.

    Raises:
        ConfigError: it holds lines, but none of ours.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=open_private) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return Tail(None, None, b"", 0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end, last = _last_record(data)
            if last is None and data.find(b"\n") >= 0:
                raise ConfigError(
                    f"audit.path: {path} holds something else than an audit log in a chain",
                    hint="move it away, or choose another `audit.path`",
                )
            return Tail(_first_seq(data) if last else None, last, data[end:], size)


def _last_record(data: mmap.mmap) -> tuple[int, Entry | None]:
    """The position behind the last whole record, and the record."""
    end = data.rfind(b"\n") + 1
    while end > 0:
        start = data.rfind(b"\n", 0, end - 1) + 1
        try:
            return end, open_line(data[start : end - 1])
        except DamagedError:
            end = start
    return 0, None


def _first_seq(data: mmap.mmap) -> int | None:
    try:
        return open_line(data[: data.find(b"\n")]).record.seq
    except DamagedError:
        return None
