"""What this machine is. Imports no native library."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Final

from inferflux_core.processors import core_count

__all__ = ["Watch", "cache_folder", "cpu_flags", "cpu_identity", "first_processor"]

_TOLERATED_SHARE: Final = 0.15


class Watch:
    """Notices whether other processes take the cores that this one computes on, from now on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._before = _seconds_of_others()

    @property
    def disturbed(self) -> bool:
        """Whether they took a share of them that shows in timings; false where nobody can tell."""
        seconds = time.monotonic() - self._started
        cores = core_count()
        spare = (os.cpu_count() or 1) - cores
        taken = _seconds_of_others() - self._before
        return taken > (spare + _TOLERATED_SHARE * cores) * seconds


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


def _seconds_of_others(stat: Path = Path("/proc/stat")) -> float:
    """Processor time of everything but this process, since the machine started; 0 on other systems."""
    try:
        fields = stat.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return 0.0
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = [int(field) for field in fields[1:9]]
    busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return busy - own.user - own.system
