"""Names of models in the library."""

from __future__ import annotations

import re
from typing import Final

from inferflux_core.errors import InvalidRequestError

__all__ = ["LATEST", "USUAL_PREFIXES", "canonical"]

LATEST: Final = "latest"
_PART: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,78}[A-Za-z0-9])?")
_MAX_PARTS: Final = 4
USUAL_PREFIXES: Final = ("registry.ollama.ai/library/", "registry.ollama.ai/", "library/")


def canonical(name: str) -> str:
    """A name as it is kept: without the usual host and the usual tag.

    Raises:
        InvalidRequestError: it could not be a name anywhere.
    """
    for prefix in USUAL_PREFIXES:
        if name.lower().startswith(prefix):
            name = name[len(prefix) :]
            break
    path, separator, tag = name.partition(":") if ":" in name else (name, "", "")
    parts = path.split("/")
    fits = len(parts) <= _MAX_PARTS and all(map(_PART.fullmatch, parts))
    if not fits or ".." in name or (separator and not _PART.fullmatch(tag)):
        raise InvalidRequestError(f"{name[:128]!r} cannot be the name of a model", param="model")
    return path if tag in ("", LATEST) else f"{path}:{tag}"
