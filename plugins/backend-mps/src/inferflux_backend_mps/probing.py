"""Whether this is Apple silicon, with something that computes on its GPU."""

from __future__ import annotations

import platform
import subprocess
from typing import Final

from inferflux_core.specs import Probe
from inferflux_runner_llamacpp.library import build_command

__all__ = ["BUILD_COMMAND", "NO_METAL_BUILD", "probe_mps"]

BUILD_COMMAND: Final = build_command("-DGGML_METAL=on")
NO_METAL_BUILD: Final = "the installed llama-cpp-python was built without Metal"


def probe_mps(
    *,
    libraries: frozenset[str],
    mlx: bool,
    system: str | None = None,
    machine: str | None = None,
    sysctl: str = "/usr/sbin/sysctl",
) -> Probe:
    """Look for the platform, then for what can use its GPU: llama.cpp, MLX or both.

    Args:
        libraries: names of the ggml libraries of the installed llama.cpp.
        mlx: whether MLX is installed, with its kernels for Metal.
        system: as in `platform.system()`, which is the default.
        machine: as in `platform.machine()`, which is the default.
        sysctl: the program that knows the chip's name.
    """
    system, machine = system or platform.system(), machine or platform.machine()
    if system != "Darwin":
        return Probe(
            available=False, reason=f"Metal needs macOS on Apple silicon; this is {system}"
        )
    if machine != "arm64":
        return Probe(
            available=False,
            reason=f"Metal needs Apple silicon and an arm64 Python; this one is {machine}",
        )
    chip = _chip(sysctl)
    if "metal" not in libraries and not mlx:
        return Probe(
            available=False,
            reason=f"{chip} is here, but {NO_METAL_BUILD}; run: {BUILD_COMMAND}",
            devices=(chip,),
        )
    users = (("llama.cpp", "metal" in libraries), ("MLX", mlx))
    names = " and ".join(name for name, here in users if here)
    return Probe(available=True, reason=f"Metal: {chip}, with {names}", devices=(chip,))


def _chip(sysctl: str) -> str:
    command = [sysctl, "-n", "machdep.cpu.brand_string"]
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed system program without user input
            command, capture_output=True, text=True, check=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return "Apple silicon"
    return answer.stdout.strip() or "Apple silicon"
