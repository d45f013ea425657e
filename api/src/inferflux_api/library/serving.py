"""The models of the library among those that are served."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec

from inferflux_api.engines import EnginePool
from inferflux_api.library.names import canonical
from inferflux_api.library.registries import Registries
from inferflux_api.library.store import LibraryStore, Manifest, new_manifest
from inferflux_api.library.transfer import Progress
from inferflux_api.models.served import ServedModel
from inferflux_core.config.schema import LibraryConfig, ModelConfig
from inferflux_core.errors import InvalidRequestError, ModelLoadError, NotFoundError
from inferflux_core.models import reference
from inferflux_core.models.gguf_header import read_gguf_header
from inferflux_core.models.stores import part_paths

__all__ = ["Library"]

logger = logging.getLogger("inferflux.library")


class Library:
    """Models that are pulled, created, copied and deleted while the server runs.

    Attributes:
        max_blob_bytes: of one file.

    Args:
        config: where they are kept.
        engines: where they are served.

    Raises:
        StartupError: the folder cannot be used.
    """

    def __init__(self, config: LibraryConfig, engines: EnginePool) -> None:
        self.max_blob_bytes = config.max_blob_bytes
        self._engines = engines
        self._changing = asyncio.Lock()
        self._store: LibraryStore | None = None
        if config.path is None:
            return
        store = LibraryStore(Path(config.path).expanduser().absolute())
        self._store = store
        self._registries = Registries(store, config.registry, config.hugging_face)
        for manifest in store:
            try:
                engines.add(manifest.name, self._served(manifest))
            except InvalidRequestError:
                logger.warning(
                    "'%s' of the library is not served: the name is taken", manifest.name
                )

    @property
    def store(self) -> LibraryStore:
        """Where files and names are.

        Raises:
            NotFoundError: this server has no library.
        """
        if self._store is None:
            raise NotFoundError(
                "this server has no model library; set `library.path` in its configuration"
            )
        return self._store

    def find(self, model: ServedModel) -> Manifest | None:
        """The manifest of a served model; None for one of the configuration."""
        return self._store.find(model.name) if self._store and self._owns(model.name) else None

    async def pull(self, name: str) -> AsyncGenerator[Progress, None]:
        """Fetch a model and serve it.

        Raises:
            NotFoundError: this server has no library.
            InvalidRequestError: there is no such model, or it cannot be used.
            EngineUnavailableError: the other side cannot be reached.
        """
        store = self.store
        self._check_free(canonical(name))
        manifest: Manifest | None = None
        async for step in self._registries.pull(name):
            if isinstance(step, Progress):
                yield step
            else:
                manifest = step
        assert manifest is not None
        await asyncio.to_thread(self._check_model, store.path(manifest.model))
        yield Progress("writing manifest")
        await self.publish(manifest)
        yield Progress("success")

    async def publish(self, manifest: Manifest) -> None:
        """Keep a model and serve it, in the place of the one that had its name.

        Raises:
            InvalidRequestError: the configuration has a model of that name, or the disk refuses.
        """
        self._check_free(manifest.name)
        async with self._changing:
            served = self.store.find(manifest.name)
            if served is not None:
                await self._engines.remove(served.name)
            try:
                self.store.put(manifest)
                served = manifest
            finally:
                if served is not None:
                    self._engines.add(served.name, self._served(served))

    async def copy(self, source: ServedModel, name: str) -> None:
        """Serve a model under another name too.

        Raises:
            InvalidRequestError: the name cannot be used.
        """
        await self.publish(await self.derive(source, canonical(name)))

    async def derive(self, source: ServedModel, name: str, **changes: Any) -> Manifest:
        """A manifest like that of a model, under another name.

        A model of the configuration is taken into the library: by a link where the file system has them.

        Raises:
            InvalidRequestError: its files cannot be taken over.
        """
        self._check_free(name)
        manifest = self.find(source)
        if manifest is None:
            digest, size = await asyncio.to_thread(self._adopt, source)
            manifest = new_manifest(name, digest, size, source=source.name)
        return msgspec.structs.replace(manifest, name=name, **changes)

    async def of_blob(self, name: str, digest: str, **fields: Any) -> Manifest:
        """A manifest for a file that was uploaded.

        Raises:
            InvalidRequestError: it was not, or it is no GGUF file.
        """
        self._check_free(name)
        if not self.store.has(digest):
            raise InvalidRequestError(f"there is no blob {digest}; upload it first", param="files")
        path = self.store.path(digest)
        await asyncio.to_thread(self._check_model, path)
        return new_manifest(name, digest, path.stat().st_size, **fields)

    async def delete(self, model: ServedModel) -> None:
        """Forget a model, and its file if no other has the same.

        Raises:
            InvalidRequestError: it is one of the configuration.
        """
        async with self._changing:
            manifest = self.find(model)
            await self._engines.remove(model.name)
            if manifest is not None:
                self.store.delete(manifest)

    def _served(self, manifest: Manifest) -> ModelConfig:
        store = self.store
        template = str(store.template_path(manifest)) if manifest.chat_template else None
        return ModelConfig(path=str(store.path(manifest.model)), chat_template=template)

    def _owns(self, name: str) -> bool:
        return name not in self._engines.configured

    def _check_free(self, name: str) -> None:
        """Whether the library may have a model of that name.

        Raises:
            InvalidRequestError: the configuration has one.
        """
        if name.lower() in map(str.lower, self._engines.configured):
            raise InvalidRequestError(
                f"model '{name}' is named in the server's configuration; choose another name",
                param="model",
            )

    @staticmethod
    def _check_model(path: Path) -> None:
        try:
            header = read_gguf_header(path)
        except ModelLoadError as error:
            raise InvalidRequestError(str(error), param="files") from error
        if header.metadata.get("general.type", "model") != "model":
            raise InvalidRequestError("this GGUF file holds no language model", param="files")

    def _adopt(self, source: ServedModel) -> tuple[str, int]:
        """Take the file of a configured model into the library; its digest and size."""
        try:
            path = reference.resolve(source.config.path or "")
            if not path.is_file() or part_paths(path) != [path]:
                raise InvalidRequestError(
                    f"model '{source.name}' is not one GGUF file, and cannot be copied"
                )
            with path.open("rb") as file:
                digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            if not self.store.has(digest):
                self._link_or_copy(path, self.store.path(digest))
            return digest, path.stat().st_size
        except (ModelLoadError, OSError) as error:
            raise InvalidRequestError(
                f"the file of model '{source.name}' cannot be copied: {error}"
            ) from error

    @staticmethod
    def _link_or_copy(path: Path, target: Path) -> None:
        part = target.with_suffix(".copy")
        part.unlink(missing_ok=True)
        try:
            part.hardlink_to(path.resolve())
        except OSError:
            shutil.copyfile(path, part)
        part.replace(target)
