"""Compiles the kernels when the package is built or installed, where compiler and processor allow it.

Once for each instruction set; which of them a processor has is seen when they are loaded.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ["-std=c++17", "-O3", "-fopenmp", "-fPIC", "-shared", "-Wall", "-Wextra"]
# GCC 12 warns of the registers that its own headers leave undefined on purpose.
FLAGS += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = ["f", "bw", "dq", "vl", "vnni", "bf16"]
# As `library.py` names them and asks processors for them.
SETS = {"avx2": AVX2, "avx512": AVX2 + [f"-mavx512{part}" for part in AVX512]}


class KernelsHook(BuildHookInterface[Any]):
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; without a compiler, or for another processor, the package says so when it is used."""
        root = Path(self.root)
        compiler = shutil.which(os.environ.get("CXX", "c++"))
        if sys.platform != "linux" or platform.machine() != "x86_64" or compiler is None:
            return
        for name, flags in SETS.items():
            _compile(compiler, flags, root, root / "src/inferflux_kernels_cpu" / f"{name}.so")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _compile(compiler: str, flags: list[str], root: Path, library: Path) -> None:
    sources = sorted(map(str, (root / "cpp").glob("*.cpp")))
    # Aside first: a running server may have the old one mapped.
    partial = library.with_suffix(".partial")
    command = [compiler, *FLAGS, *flags, *sources, "-o", str(partial)]
    subprocess.run(command, check=True)  # noqa: S603 - nothing of it comes from outside
    partial.replace(library)
