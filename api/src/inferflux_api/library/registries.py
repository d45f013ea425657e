"""Where models come from: registries that speak Ollama's protocol, and Hugging Face."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final
from urllib.parse import quote

import httpx2
import msgspec

from inferflux_api.library.names import LATEST, canonical
from inferflux_api.library.store import LibraryStore, Manifest, new_manifest
from inferflux_api.library.transfer import Progress, download, get_json, get_text
from inferflux_core.errors import InvalidRequestError

__all__ = ["Registries"]

_HUGGING_FACE: Final = ("hf.co/", "huggingface.co/")
_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_LAYER: Final = "application/vnd.ollama.image."
_USUAL_QUANTIZATION: Final = "Q4_K_M"


class Registries:
    """Pulls models into a store.

    Args:
        store: where they go.
        ollama: address of the registry for plain names.
        hugging_face: address of the hub, or of a mirror, for names that begin with `hf.co/`.
    """

    def __init__(self, store: LibraryStore, ollama: str, hugging_face: str) -> None:
        self._store = store
        self._ollama = ollama.rstrip("/")
        self._hugging_face = hugging_face.rstrip("/")

    async def pull(self, name: str) -> AsyncGenerator[Progress | Manifest, None]:
        """Fetch a model; the last thing that comes is its manifest, which is not kept yet.

        Raises:
            InvalidRequestError: there is no such model, or it is of a kind that cannot be used.
            EngineUnavailableError: the other side cannot be reached.
        """
        yield Progress("pulling manifest")
        name = canonical(name)
        async with httpx2.AsyncClient(follow_redirects=True, timeout=30) as client:
            from_hub = name.startswith(_HUGGING_FACE)
            source = self._from_hub if from_hub else self._from_registry
            async for step in source(client, name):
                yield step

    async def _from_registry(
        self, client: httpx2.AsyncClient, name: str
    ) -> AsyncGenerator[Progress | Manifest, None]:
        path, _, tag = name.partition(":")
        if path.count("/") > 1:
            raise InvalidRequestError(
                "models come from the registry in `library.registry` only", param="model"
            )
        base = f"{self._ollama}/v2/{path if '/' in path else f'library/{path}'}"
        document = await get_json(client, f"{base}/manifests/{tag or LATEST}", _MANIFEST)
        layers = _layers(document)
        if _LAYER + "model" not in layers:
            raise InvalidRequestError(f"'{name}' has no GGUF file", param="model")
        if _LAYER + "adapter" in layers or _LAYER + "projector" in layers:
            raise InvalidRequestError(
                f"'{name}' needs an adapter or a projector, which cannot be pulled here",
                param="model",
            )
        digest, size = layers[_LAYER + "model"]
        async for step in download(client, self._store, f"{base}/blobs/{digest}", digest, size):
            yield step
        texts: dict[str, str] = {}
        for kind in ("template", "system", "params", "license"):
            if (layer := layers.get(_LAYER + kind)) is not None:
                texts[kind] = await get_text(client, f"{base}/blobs/{layer[0]}", layer[0])
        yield Progress("verifying sha256 digest")
        yield new_manifest(
            name,
            digest,
            size,
            source=base,
            template=texts.get("template", ""),
            system=texts.get("system", ""),
            parameters=_parameters(texts.get("params", "{}")),
            license=[texts["license"]] if "license" in texts else [],
        )

    async def _from_hub(
        self, client: httpx2.AsyncClient, name: str
    ) -> AsyncGenerator[Progress | Manifest, None]:
        path, _, wanted = name.partition(":")
        repository = path.partition("/")[2]
        if repository.count("/") != 1:
            raise InvalidRequestError(
                "a name on the hub is hf.co/USER/REPOSITORY, with a quantization behind a colon",
                param="model",
            )
        listing = await get_json(
            client,
            f"{self._hugging_face}/api/models/{repository}/tree/main?recursive=true",
            "application/json",
        )
        file, digest, size = _chosen(listing, wanted)
        url = f"{self._hugging_face}/{repository}/resolve/main/{quote(file)}"
        async for step in download(client, self._store, url, digest, size):
            yield step
        yield Progress("verifying sha256 digest")
        yield new_manifest(name, digest, size, source=url)


def _layers(document: object) -> dict[str, tuple[str, int]]:
    """Digest and size by media type."""
    layers = document.get("layers") if isinstance(document, dict) else None
    found: dict[str, tuple[str, int]] = {}
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict):
            kind, digest, size = (layer.get(k) for k in ("mediaType", "digest", "size"))
            if isinstance(kind, str) and isinstance(digest, str) and isinstance(size, int):
                found[kind] = digest, size
    return found


def _chosen(listing: object, wanted: str) -> tuple[str, str, int]:
    """Path, digest and size of the file that a quantization means."""
    files: dict[str, tuple[str, int]] = {}
    for entry in listing if isinstance(listing, list) else []:
        lfs = entry.get("lfs") if isinstance(entry, dict) else None
        if isinstance(lfs, dict) and str(entry.get("path", "")).lower().endswith(".gguf"):
            digest, size = lfs.get("oid"), lfs.get("size")
            if isinstance(digest, str) and isinstance(size, int):
                files[entry["path"]] = f"sha256:{digest}", size
    quantization = (wanted or _USUAL_QUANTIZATION).lower()
    matching = [path for path in files if quantization in path.lower()]
    if not matching and not wanted:
        matching = list(files)[:1]
    if not matching:
        known = ", ".join(sorted(files)) or "none at all"
        raise InvalidRequestError(f"no GGUF file fits; there is: {known}", param="model")
    path = min(matching, key=len)
    if "-of-" in path:
        raise InvalidRequestError(
            f"{path} is split into several files; download them and serve them by `model.path`",
            param="model",
        )
    return path, *files[path]


def _parameters(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"the model's parameters cannot be read: {error}") from error
