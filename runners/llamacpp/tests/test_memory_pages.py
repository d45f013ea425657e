"""Pages that hold only zeros go back; address space that was only reserved is never walked."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from inferflux_runner_llamacpp.memory import drop_zero_pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_MIB = 2**20
_MAP_NORESERVE = 0x4000  # Linux's; the module names it from 3.13 on


def _private(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE


def test_cleared_memory_is_returned_and_what_was_written_stays() -> None:
    memory = _private(256 * _MIB)
    for start in range(0, len(memory), _MIB):
        memory[start : start + _MIB] = bytes(_MIB)
    memory[100 * _MIB] = 7
    before = _resident()

    assert drop_zero_pages() >= 240 * _MIB
    assert before - _resident() >= 200 * _MIB
    assert memory[100 * _MIB] == 7


def test_reserved_address_space_is_not_walked() -> None:
    reserved = _private(2**38)  # a walk would take minutes, and a page of tables for each 2 MiB
    reserved[0] = 1
    try:
        assert drop_zero_pages() < 2**38
    finally:
        reserved.close()
