"""What the installed build of llama.cpp can run on, told from its files without loading any of them.

Loading would be dear in the API process, where backends are probed, and fatal if the build is for
another CPU.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
from pathlib import Path

__all__ = ["build_command", "ggml_libraries", "library_folder"]

_PATTERNS = ("libggml-*.so*", "libggml-*.dylib", "ggml-*.dll")


def library_folder() -> Path | None:
    """The folder that llama-cpp-python loads its libraries from, or None if it is not installed.

    It need not exist: `LLAMA_CPP_LIB_PATH` replaces the package's own folder, as in llama_cpp.
    """
    if override := os.environ.get("LLAMA_CPP_LIB_PATH"):
        return Path(override)
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], "lib")


def ggml_libraries(folder: Path | None = None) -> frozenset[str]:
    """Name the ggml libraries of a build, e.g. `{"base", "cpu", "cuda"}`.

    Args:
        folder: where to look; by default the installed llama-cpp-python's own.

    Returns:
        The names, without prefix, version and suffix; empty if nothing is installed.
    """
    folder = folder or library_folder()
    if folder is None:
        return frozenset()
    names = (path.name for pattern in _PATTERNS for path in folder.glob(pattern))
    return frozenset(name.split(".")[0].removeprefix("lib").removeprefix("ggml-") for name in names)


def build_command(cmake_args: str) -> str:
    """The shell command that compiles llama-cpp-python anew with these CMake arguments."""
    return (
        f"CMAKE_ARGS={shlex.quote(cmake_args)} pip install --force-reinstall --no-cache-dir "
        "--no-binary llama-cpp-python llama-cpp-python"
    )
