"""Names of models as Ollama's clients write them."""

from __future__ import annotations

from collections.abc import Iterator

from inferflux_api.engines import Target, VisibleModels
from inferflux_api.library.names import LATEST, USUAL_PREFIXES
from inferflux_core.errors import ModelNotFoundError

__all__ = ["resolve", "with_tag"]

_LATEST = f":{LATEST}"


def with_tag(name: str) -> str:
    """A name with its tag, `latest` if it has none."""
    return name if ":" in name.rpartition("/")[2] else name + _LATEST


def resolve(models: VisibleModels, name: str) -> Target:
    """The model or adapter that a name stands for, whatever its case, with or without the usual tag.

    Raises:
        ModelNotFoundError: there is none.
    """
    for candidate in _spellings(name):
        for known in (known for model in models for known in models.names(model)):
            if known.lower() == candidate:
                return models.resolve(known)
    raise ModelNotFoundError(f"model '{name}' not found")


def _spellings(name: str) -> Iterator[str]:
    name = name.lower()
    for prefix in ("", *USUAL_PREFIXES):
        if name.startswith(prefix):
            bare = name.removeprefix(prefix)
            yield bare
            yield bare.removesuffix(_LATEST) if bare.endswith(_LATEST) else bare + _LATEST
