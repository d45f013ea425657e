"""Models in LM Studio's folder: `lmstudio://publisher/repo[/file]`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.stores import choose_file, repository_name, repository_parts

__all__ = ["SCHEME", "default_name", "resolve"]

SCHEME: Final = "lmstudio://"
_EXAMPLE: Final = "lmstudio-community/Llama-3.2-1B-Instruct-GGUF"
_STORES: Final = ("~/.lmstudio/models", "~/.cache/lm-studio/models")


def resolve(reference: str) -> Path:
    """The file that a reference names.

    Raises:
        ModelLoadError: it is malformed, not there, or stands for several files.
    """
    publisher, repo, *file = repository_parts(reference, SCHEME, _EXAMPLE)
    for store in (Path(name).expanduser() for name in _STORES):
        folder = store / publisher / repo
        if folder.is_dir():
            return choose_file(reference, store, folder, file)
    raise ModelLoadError(
        f"{reference} is neither in {_STORES[0]} nor in {_STORES[1]}",
        hint=f"run: lms get {publisher}/{repo}  (or set `model.path` to the file)",
    )


def default_name(reference: str) -> str:
    """The file's name, or else that of the repository."""
    return repository_name(repository_parts(reference, SCHEME, _EXAMPLE))
