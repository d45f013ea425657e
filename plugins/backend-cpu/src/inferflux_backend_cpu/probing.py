"""Whether and how well this processor can run a model."""

from __future__ import annotations

import platform
from pathlib import Path

from inferflux_core.specs import Probe
from inferflux_runner_llamacpp.host import first_processor

__all__ = ["probe_cpu"]

_NOTABLE = (
    "amx_int8",
    "amx_bf16",
    "avx512_bf16",
    "avx512_vnni",
    "avx512f",
    "avx_vnni",
    "avx2",
    "i8mm",
    "asimddp",
    "sve",
)
"""Instruction sets that llama.cpp has kernels for, the most useful first, as Linux spells them."""


def probe_cpu(*, libraries: frozenset[str], cores: int, cpuinfo: Path) -> Probe:
    """Describe the processor.

    Args:
        libraries: names of the ggml libraries of the installed llama.cpp.
        cores: cores this process may use.
        cpuinfo: Linux's `/proc/cpuinfo`; may be missing on other systems.
    """
    # Builds with several variants name them cpu-haswell, cpu-zen4 and so on.
    if not any(name.startswith("cpu") for name in libraries):
        return Probe(
            available=False,
            reason="no llama.cpp library for the CPU is installed; try: pip install llama-cpp-python",
        )
    fields = first_processor(cpuinfo)
    model = fields.get("model name") or platform.processor() or platform.machine()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    notable = [flag for flag in _NOTABLE if flag in flags]
    device = f"{model}, {cores} {'core' if cores == 1 else 'cores'}"
    return Probe(
        available=True,
        reason=f"{device}: {', '.join(notable)}" if notable else device,
        devices=(device,),
    )
