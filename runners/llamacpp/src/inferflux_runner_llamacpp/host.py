"""What this machine is. Imports no native library."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["cache_folder", "core_count", "cpu_flags", "cpu_identity"]


def core_count() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_flags() -> frozenset[str]:
    """Instruction set extensions as Linux names them; empty elsewhere."""
    return frozenset(_first_processor().get("flags", "").split())


def cpu_identity() -> str:
    """A string that differs between machines on which measurements would differ."""
    first = _first_processor()
    return "|".join((platform.machine(), first.get("model name", ""), first.get("flags", "")))


def cache_folder() -> Path:
    """Where results that can be computed again are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "inferflux"


def _first_processor() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
