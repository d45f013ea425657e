"""What this machine is. Imports no native library."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["cache_folder", "core_count", "cpu_flags", "cpu_identity", "first_processor"]


def core_count() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_flags() -> frozenset[str]:
    """Instruction set extensions as Linux names them; empty elsewhere."""
    return frozenset(first_processor().get("flags", "").split())


def cpu_identity() -> str:
    """A string that differs between machines on which measurements would differ."""
    first = first_processor()
    return "|".join((platform.machine(), first.get("model name", ""), first.get("flags", "")))


def cache_folder() -> Path:
    """Where results that can be computed again are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "inferflux"


def first_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says about the first processor; empty on other systems."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
