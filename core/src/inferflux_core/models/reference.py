"""From the `model.path` of a configuration to a file or folder on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

from inferflux_core.errors import ModelLoadError
from inferflux_core.models import huggingface, lmstudio, ollama, package
from inferflux_core.models.stores import part_paths, without_part

__all__ = ["default_name", "resolve", "size_bytes"]

_STORES: Final[dict[str, tuple[Callable[[str], Path], Callable[[str], str]]]] = {
    store.SCHEME: (store.resolve, store.default_name) for store in (huggingface, ollama, lmstudio)
}


def resolve(reference: str) -> Path:
    """Find the file that a model reference names; of a split model, its first part; or a model's folder.

    Args:
        reference: a path; `pkg://module/file` for weights that ship in a Python package; or where another
            program has put them: `hf://org/repo[/file]`, `ollama://name[:tag]`,
            `lmstudio://publisher/repo[/file]`.

    Raises:
        ModelLoadError: there is no such file or package.
    """
    for scheme, (resolve_in_store, _) in _STORES.items():
        if reference.startswith(scheme):
            return resolve_in_store(reference)
    in_package = reference.startswith(package.SCHEME)
    path = package.resolve(reference) if in_package else Path(reference).expanduser()
    if not path.exists():
        raise ModelLoadError(
            f"model file {path} does not exist",
            hint="check `model.path` in the configuration, or INFERFLUX_MODEL_PATH",
        )
    return path


def size_bytes(reference: str) -> int:
    """The size of a model's files.

    Raises:
        ModelLoadError: there is no such file or package.
    """
    try:
        return sum(path.stat().st_size for path in part_paths(resolve(reference)))
    except OSError as error:
        raise ModelLoadError(
            f"{reference}: {error.filename} cannot be read: {error.strerror}",
            hint="see that all parts of the model are there",
        ) from error


def default_name(reference: str) -> str:
    """The name under which a model is served if the configuration gives none.

    Raises:
        ModelLoadError: the reference is malformed.
    """
    for scheme, (_, name_in_store) in _STORES.items():
        if reference.startswith(scheme):
            return name_in_store(reference)
    return without_part(PurePosixPath(reference).name) or reference
