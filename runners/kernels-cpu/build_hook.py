"""Compiles the kernels when the package is built or installed, where compiler and processor allow it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = [
    "-std=c++17",
    "-O3",
    "-march=x86-64-v3",
    "-fopenmp",
    "-fPIC",
    "-shared",
    "-Wall",
    "-Wextra",
]


class KernelsHook(BuildHookInterface[Any]):
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; without a compiler, or for another processor, the package says so when it is used."""
        root = Path(self.root)
        library = root / "src" / "inferflux_kernels_cpu" / "kernels.so"
        compiler = shutil.which(os.environ.get("CXX", "c++"))
        if sys.platform != "linux" or platform.machine() != "x86_64" or compiler is None:
            return
        sources = sorted(map(str, (root / "cpp").glob("*.cpp")))
        # Aside first: a running server may have the old one mapped.
        partial = library.with_suffix(".partial")
        command = [compiler, *FLAGS, *sources, "-o", str(partial)]
        subprocess.run(command, check=True)  # noqa: S603 - nothing of it comes from outside
        partial.replace(library)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
