"""Whether an AMD GPU, access to it, and a build of llama.cpp or torch that uses it are all here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from inferflux_backend_rocm.topology import gpu_names
from inferflux_core.specs import Probe
from inferflux_runner_llamacpp.library import build_command

__all__ = ["BUILD_COMMAND", "NO_BUILD", "probe_rocm"]

BUILD_COMMAND: Final = build_command("-DGGML_HIP=on")
NO_BUILD: Final = "the installed llama-cpp-python was built without ROCm"


def probe_rocm(
    *,
    libraries: frozenset[str],
    torch: bool = False,
    kfd: Path = Path("/dev/kfd"),
    nodes: Path = Path("/sys/class/kfd/kfd/topology/nodes"),
) -> Probe:
    """Look for a device, then for access to it, then for a build that can use it.

    Args:
        libraries: names of the ggml libraries of the installed llama.cpp.
        torch: whether the torch runner is installed, with a torch for ROCm.
        kfd: the device file through which ROCm reaches every GPU.
        nodes: where the driver lists its processors.
    """
    devices = gpu_names(nodes)
    if not devices:
        return Probe(
            available=False,
            reason="no AMD GPU that ROCm can use; install the amdgpu driver, or in a container pass "
            "the GPU through (docker run --device /dev/kfd --device /dev/dri)",
        )
    problem = _access_problem(kfd) or (None if torch else _build_problem(libraries))
    if problem:
        return Probe(
            available=False, reason=f"{devices[0]} is here, but {problem}", devices=devices
        )
    return Probe(available=True, reason=f"ROCm: {', '.join(devices)}", devices=devices)


def _access_problem(kfd: Path) -> str | None:
    if not kfd.exists():
        return f"{kfd} is not; in a container: docker run --device /dev/kfd --device /dev/dri"
    if not os.access(kfd, os.R_OK | os.W_OK):
        return f"this user may not open {kfd}; add it to the group `render`"
    return None


def _build_problem(libraries: frozenset[str]) -> str | None:
    if "hip" in libraries:
        return None
    return f"{NO_BUILD}; install ROCm with its HIP compiler, then: {BUILD_COMMAND}"
