"""Kernels of decoders for x86-64 processors with AVX2, or AVX-512 with VNNI and bfloat16.

Arrays are passed by their addresses: who calls sees to shapes, types and contiguity. `cpp/kernels.h`
describes the functions.
"""

from inferflux_kernels_cpu.library import (
    BLOCK,
    VERSION,
    Decoder,
    Layer,
    Linear,
    Rows,
    load,
    usable,
    why_not,
)

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
