"""Models in the cache of Hugging Face's tools: `hf://org/repo[/file]`.

The cache holds `models--ORG--REPO/{refs,snapshots,blobs}`: a ref is a file with a commit, a snapshot is a
folder of links to blobs (huggingface_hub, "Understand caching").
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.stores import choose_file, repository_name, repository_parts

__all__ = ["SCHEME", "default_name", "resolve"]

SCHEME: Final = "hf://"
_EXAMPLE: Final = "HuggingFaceTB/SmolLM2-135M-Instruct-GGUF"
_REVISION: Final = "main"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")


def resolve(reference: str) -> Path:
    """The file that a reference names, or the folder of a repository with safetensors.

    Raises:
        ModelLoadError: it is malformed, nothing was downloaded, or there are several files to choose from.
    """
    org, repo, *file = repository_parts(reference, SCHEME, _EXAMPLE)
    cache = _cache()
    store = cache / f"models--{org}--{repo}"
    snapshot = _snapshot(store)
    if snapshot is None:
        what = f"{org}/{repo}" + (f" {'/'.join(file)}" if file else "")
        raise ModelLoadError(
            f"{reference} is not in the cache {cache}, and this version does not download models",
            hint=f"run: hf download {what}  (from the package huggingface_hub; if the repository "
            "holds several GGUF files, name the one to fetch)",
        )
    return choose_file(reference, store, snapshot, file)


def default_name(reference: str) -> str:
    """The file's name, or else that of the repository."""
    return repository_name(repository_parts(reference, SCHEME, _EXAMPLE))


def _cache() -> Path:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if folder := os.environ.get(variable):
            return Path(folder).expanduser()
    home = os.environ.get("HF_HOME")
    if home is None:
        home = str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(home).expanduser() / "hub"


def _snapshot(store: Path) -> Path | None:
    """The folder of what `main` was at the last download; the only one, if another revision was fetched."""
    snapshots = store / "snapshots"
    try:
        commit = (store / "refs" / _REVISION).read_text(encoding="ascii").strip()
        known = [commit] if _COMMIT.match(commit) else []
    except (OSError, UnicodeDecodeError):
        known = [path.name for path in snapshots.glob("*") if _COMMIT.match(path.name)]
    if len(known) == 1 and (snapshots / known[0]).is_dir():
        return snapshots / known[0]
    return None
