"""The compiled libraries, one for each instruction set."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from pathlib import Path
from typing import Final

__all__ = [
    "BLOCK",
    "VERSION",
    "Decoder",
    "Layer",
    "Linear",
    "Rows",
    "load",
    "usable",
    "why_not",
]

BLOCK: Final = 64
"""Tokens in a block of keys and values."""
VERSION: Final = 3
"""Raised when a kernel gets faster or rounds otherwise: what was measured before no longer holds."""
_AVX2: Final = frozenset({"avx2", "fma", "f16c"})
_AVX512: Final = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"}
_INSTRUCTION_SETS: Final = {"avx512": _AVX2 | _AVX512, "avx2": _AVX2}
"""What a processor must have, as Linux calls it; the fastest first."""

_FOLDER: Final = Path(__file__).parent
_CPUINFO: Final = Path("/proc/cpuinfo")
_P, _N, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class Linear(ctypes.Structure):
    """A packed weight; see `InferfluxLinear` in `cpp/kernels.h`."""

    _fields_ = (
        ("precision", _N),
        ("inputs", _N),
        ("outputs", _N),
        ("packed", _P),
        ("scales", _P),
        ("bias", _P),
    )


class Decoder(ctypes.Structure):
    """What all layers share; see `InferfluxDecoder`."""

    _fields_ = (
        ("layers", _N),
        ("width", _N),
        ("inner", _N),
        ("heads", _N),
        ("heads_kv", _N),
        ("head", _N),
        ("gelu", _N),
        ("epsilon", _F),
        ("attention_scale", _F),
    )


class Layer(ctypes.Structure):
    """Addresses of a layer's weights and cache; see `InferfluxLayer`."""

    _fields_ = (
        ("qkv", _P),
        ("out", _P),
        ("gate_up", _P),
        ("down", _P),
        ("norm_in", _P),
        ("norm_queries", _P),
        ("norm_keys", _P),
        ("norm_attention", _P),
        ("norm_mlp", _P),
        ("norm_out", _P),
        ("table", _P),
        ("rotated", _N),
        ("window", _N),
        ("keys", _P),
        ("values", _P),
    )


class Rows(ctypes.Structure):
    """The rows of a pass; see `InferfluxRows`."""

    _fields_ = (
        ("rows", _N),
        ("sequences", _N),
        ("table_width", _N),
        ("starts", _P),
        ("contexts", _P),
        ("tables", _P),
        ("positions", _P),
        ("cells", _P),
    )


_SIGNATURES: Final = {
    "panel": ((), _N),
    "packed_bytes": ((_N, _N, _N), _N),
    "scratch_bytes": ((_P, _N), _N),
    "pack": ((_P, _P), None),
    "linear": ((_P, _P, _P, _P, _N), None),
    "rms_norm": ((_P, _P, _P, _N, _N, _F), None),
    "add_rms_norm": ((_P, _P, _P, _P, _N, _N, _F), None),
    "head_norm": ((_P, _N, _P, _N, _N, _N, _F), None),
    "gated_silu": ((_P, _P, _N, _N), None),
    "gated_gelu": ((_P, _P, _N, _N), None),
    "rotate_and_store": (
        (_P, _N, _P, _N, _P, _N, _P, _P, _P, _P, _P, _N, _N, _N, _N, _N),
        None,
    ),
    "read_cells": ((_P, _P, _P, _P, _P, _N, _N, _N), None),
    "write_cells": ((_P, _P, _P, _P, _P, _N, _N, _N), None),
    "attention": ((_P, _N, _P, _P, _P, _P, _P, _N, _P, _N, _N, _N, _N, _F, _N), None),
    "layers_scratch_bytes": ((_P, _P, _N), _N),
    "layers": ((_P, _P, _P, _P, _P, _P, _P), None),
}


def usable(cpuinfo: Path = _CPUINFO) -> tuple[str, ...]:
    """Instruction sets that this processor has and the package was compiled for, the fastest first."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return ()
    flags = _flags(cpuinfo)
    return tuple(
        name
        for name, needed in _INSTRUCTION_SETS.items()
        if needed <= flags and _file(name).exists()
    )


def why_not(cpuinfo: Path = _CPUINFO) -> str | None:
    """Why the kernels cannot be used here; None if they can."""
    if usable(cpuinfo):
        return None
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"there are no kernels for {platform.machine()} on {sys.platform}"
    if not _file("avx2").exists():
        return "no C++ compiler was found when inferflux-kernels-cpu was installed"
    return f"the processor has no {', '.join(sorted(_AVX2 - _flags(cpuinfo)))}"


@functools.cache
def load(name: str) -> ctypes.CDLL:
    """The library for a `usable` instruction set; its functions have lost the prefix `inferflux_`.

    Load it after torch: both then use torch's OpenMP threads, and do not wait for each other's.

    Raises:
        RuntimeError: it cannot be used here.
    """
    if name not in usable():
        raise RuntimeError(why_not() or f"there are no kernels for {name} here")
    library = ctypes.CDLL(str(_file(name)))
    for function_name, (arguments, result) in _SIGNATURES.items():
        function = getattr(library, f"inferflux_{function_name}")
        function.argtypes = arguments
        function.restype = result
        setattr(library, function_name, function)
    return library


def _file(name: str) -> Path:
    return _FOLDER / f"{name}.so"


def _flags(cpuinfo: Path) -> frozenset[str]:
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    return next(
        (frozenset(line.split()) for line in lines if line.startswith("flags")), frozenset()
    )
