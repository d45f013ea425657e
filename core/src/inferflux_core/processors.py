"""The cores that this process may use, as they were before a library bound threads to some of them.

Where `OMP_PROC_BIND` is set, each copy of OpenMP's library that is loaded binds the thread that loads it to
one core. A copy that comes later, and whoever asks the system, then sees no other core. Many packages bring
a copy of their own, so import this module before any of them.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

__all__ = ["core_count", "use_all_cores"]

_ALLOWED: Final = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def core_count() -> int:
    """The cores this process may use."""
    return (os.cpu_count() or 1) if _ALLOWED is None else len(_ALLOWED)


def use_all_cores() -> None:
    """Let this thread run on any of them, and those that it starts from now on."""
    if _ALLOWED is not None:
        # Fails where this process has meanwhile been given none but other cores.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, _ALLOWED)
