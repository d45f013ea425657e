"""What is installed of MLX, told without loading any of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["MlxInstallation", "find_mlx"]

_PACKAGES: Final = ("mlx", "mlx_lm")
_LIBRARIES: Final = ("libmlx.so", "libmlx.dylib")
_METAL_KERNELS: Final = "mlx.metallib"


@dataclass(frozen=True, slots=True)
class MlxInstallation:
    """An installed MLX.

    Attributes:
        missing: what has to be installed before it can run; empty if nothing.
        metal: whether it has kernels for the GPU of a Mac.
    """

    missing: tuple[str, ...]
    metal: bool


def find_mlx(folders: Iterable[str] | None = None) -> MlxInstallation:
    """Look for MLX and its models.

    Args:
        folders: where MLX is installed; by default where Python would import it from.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if folders is None:
        spec = importlib.util.find_spec("mlx")
        folders = spec.submodule_search_locations or () if spec else ()
    libraries = [Path(folder, "lib") for folder in folders]
    # The package `mlx` comes without the library that does its work, unless one is chosen.
    if "mlx" not in missing and not any(
        (place / name).exists() for place in libraries for name in _LIBRARIES
    ):
        missing.append("libmlx")
    metal = any((place / _METAL_KERNELS).exists() for place in libraries)
    return MlxInstallation(tuple(missing), metal and not missing)
