"""Models in Ollama's store: `ollama://name[:tag]`.

The store holds `manifests/HOST/NAMESPACE/NAME/TAG`, a JSON list of layers, and `blobs/sha256-HEX`; the layer
with the weights is a GGUF file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.stores import kept_inside, name_parts

__all__ = ["SCHEME", "default_name", "resolve"]

SCHEME: Final = "ollama://"
_DEFAULTS: Final = ("registry.ollama.ai", "library")
_WEIGHTS: Final = "application/vnd.ollama.image.model"
_ADAPTER: Final = "application/vnd.ollama.image.adapter"
_MAX_MANIFEST_BYTES: Final = 1024 * 1024


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Manifest(msgspec.Struct, frozen=True):
    layers: list[_Layer]


def resolve(reference: str) -> Path:
    """The blob that holds a model's weights.

    Raises:
        ModelLoadError: the name is malformed, the model is not there, or it is not one GGUF file.
    """
    path, tag = _split(reference)
    store = _store()
    manifest = store.joinpath("manifests", *path, tag)
    if not manifest.is_file():
        name = reference.removeprefix(SCHEME)
        raise ModelLoadError(
            f"{reference} is not in Ollama's store {store}",
            hint=f"run: ollama pull {name}  (or set OLLAMA_MODELS to another store; that of the "
            "system's service is often /usr/share/ollama/.ollama/models)",
        )
    layers = _read(reference, kept_inside(store, manifest))
    weights = [layer for layer in layers if layer.media_type == _WEIGHTS]
    if len(weights) != 1 or any(layer.media_type == _ADAPTER for layer in layers):
        raise ModelLoadError(
            f"{reference} is not one GGUF file: it has {len(weights)} layers of weights, or an adapter",
            hint="choose a model without adapters that Ollama runs from GGUF",
        )
    return kept_inside(store, store / "blobs" / weights[0].digest.replace(":", "-"))


def default_name(reference: str) -> str:
    """The name as Ollama's clients write it."""
    _split(reference)
    return reference.removeprefix(SCHEME)


def _split(reference: str) -> tuple[list[str], str]:
    name, colon, tag = reference.removeprefix(SCHEME).partition(":")
    parts = name_parts(reference, name)
    tags = name_parts(reference, tag) if colon else ["latest"]
    if len(parts) > 3 or len(tags) > 1:
        raise ModelLoadError(
            f"{reference} has too many parts", hint="for example ollama://llama3.2:1b"
        )
    return [*_DEFAULTS[: 3 - len(parts)], *parts], tags[0]


def _store() -> Path:
    return Path(os.environ.get("OLLAMA_MODELS") or "~/.ollama/models").expanduser()


def _read(reference: str, manifest: Path) -> list[_Layer]:
    try:
        with manifest.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_MANIFEST_BYTES), type=_Manifest).layers
    except (OSError, msgspec.DecodeError) as error:
        raise ModelLoadError(
            f"{reference}: the manifest {manifest} cannot be read: {error}",
            hint="pull the model again",
        ) from error
