"""Whether a CUDA device, its driver, and a build of llama.cpp or torch that uses it are all here."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from inferflux_backend_cuda.driver import DriverError, device_names
from inferflux_core.specs import Probe
from inferflux_runner_llamacpp.library import build_command

__all__ = ["BUILD_COMMAND", "NO_BUILD", "probe_cuda"]

BUILD_COMMAND: Final = build_command("-DGGML_CUDA=on")
NO_BUILD: Final = "the installed llama-cpp-python was built without CUDA"


def probe_cuda(
    *,
    libraries: frozenset[str],
    torch: bool = False,
    driver: str = "libcuda.so.1",
    dev: Path = Path("/dev"),
) -> Probe:
    """Look for a device, then for a build that can use it.

    Args:
        libraries: names of the ggml libraries of the installed llama.cpp.
        torch: whether the torch runner is installed, with a torch for CUDA.
        driver: the CUDA driver's library.
        dev: the folder of device files.
    """
    # WSL passes the GPU through as dxg.
    has_files = any(dev.glob("nvidia[0-9]*")) or (dev / "dxg").exists()
    try:
        devices = device_names(driver)
    except OSError:
        return Probe(available=False, reason=_without_driver(driver, has_files=has_files))
    except DriverError as error:
        return Probe(available=False, reason=_without_device(str(error), has_files=has_files))
    if not devices:
        return Probe(available=False, reason="the CUDA driver reports no device")
    if "cuda" not in libraries and not torch:
        return Probe(
            available=False,
            reason=f"{devices[0]} is here, but {NO_BUILD}; install the CUDA toolkit, then: "
            f"{BUILD_COMMAND}",
            devices=devices,
        )
    return Probe(available=True, reason=f"CUDA: {', '.join(devices)}", devices=devices)


def _without_driver(driver: str, *, has_files: bool) -> str:
    if has_files:
        return (
            f"an NVIDIA device is here, but {driver} cannot be loaded; install the driver's user "
            "libraries (Debian: libcuda1; in a container: the NVIDIA container toolkit)"
        )
    return f"no NVIDIA driver on this machine: {driver} cannot be loaded; install the driver"


def _without_device(error: str, *, has_files: bool) -> str:
    if has_files:
        return f"the CUDA driver refuses: {error}; see what `nvidia-smi` says"
    return (
        f"the CUDA driver refuses: {error}; there is no /dev/nvidia0 "
        "(in a container: start it with access to the GPU, e.g. docker run --gpus all)"
    )
