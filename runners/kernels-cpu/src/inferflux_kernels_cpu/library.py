"""The compiled library."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from pathlib import Path
from typing import Final

__all__ = ["BLOCK", "PANEL", "load", "why_not"]

BLOCK: Final = 64
"""Tokens in a block of keys and values."""
PANEL: Final = 16
"""Outputs in a panel of a packed weight."""

_FILE: Final = Path(__file__).with_name("kernels.so")
_NEEDED: Final = frozenset({"avx2", "fma", "f16c"})
_P, _N, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_SIGNATURES: Final = {
    "pack_words": (_P, _N, _N, _P),
    "pack_int8": (_P, _N, _N, _P, _P),
    "linear_bf16": (_P, _P, _P, _P, _N, _N, _N),
    "linear_f16": (_P, _P, _P, _P, _N, _N, _N),
    "linear_int8": (_P, _P, _P, _P, _P, _P, _P, _N, _N, _N),
    "rms_norm": (_P, _P, _P, _N, _N, _F),
    "add_rms_norm": (_P, _P, _P, _P, _N, _N, _F),
    "gated_silu": (_P, _P, _N, _N),
    "gated_gelu": (_P, _P, _N, _N),
    "rotate_and_store": (_P, _N, _P, _N, _P, _N, _P, _P, _P, _P, _P, _N, _N, _N, _N, _N),
    "attention": (_P, _N, _P, _P, _P, _P, _P, _N, _P, _N, _N, _N, _N, _F, _N),
}


def why_not(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Why the kernels cannot be used here; None if they can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"there are no kernels for {platform.machine()} on {sys.platform}"
    if not _FILE.exists():
        return "no C++ compiler was found when inferflux-kernels-cpu was installed"
    lines = cpuinfo.read_text().splitlines()
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    if missing := sorted(_NEEDED - flags):
        return f"the processor has no {', '.join(missing)}"
    return None


@functools.cache
def load() -> ctypes.CDLL:
    """The library, whose functions have lost the prefix `inferflux_`.

    Load it after torch: both then use torch's OpenMP threads, and do not wait for each other's.

    Raises:
        RuntimeError: it cannot be used here.
    """
    if reason := why_not():
        raise RuntimeError(reason)
    library = ctypes.CDLL(str(_FILE))
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, f"inferflux_{name}")
        function.argtypes = arguments
        function.restype = None
        setattr(library, name, function)
    return library
