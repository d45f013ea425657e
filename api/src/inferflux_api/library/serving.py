"""The models of the library among those that are served."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec

from inferflux_api.engines import EnginePool
from inferflux_api.library.making import converted, quantized
from inferflux_api.library.names import canonical
from inferflux_api.library.registries import Registries
from inferflux_api.library.store import LibraryStore, Manifest, check_digest, new_manifest
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
                self._serve(manifest)
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
        if self._store is None or model.name in self._engines.configured:
            return None
        return self._store.find(model.name)

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
        try:
            await asyncio.to_thread(_check_gguf, store.path(manifest.model), "model")
        except InvalidRequestError:
            store.discard([manifest.model])
            raise
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
                    self._serve(served)

    async def copy(self, source: ServedModel, name: str) -> None:
        """Serve a model under another name too.

        Raises:
            InvalidRequestError: the name cannot be used.
        """
        await self.publish(await self.derive(source, canonical(name)))

    async def derive(self, source: ServedModel, name: str) -> Manifest:
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
        return msgspec.structs.replace(manifest, name=name)

    async def of_blob(self, name: str, digest: str) -> Manifest:
        """A manifest for a file that was uploaded.

        Raises:
            InvalidRequestError: it was not, or it is no GGUF file.
        """
        self._check_free(name)
        path = self.store.required(digest, "files")
        await asyncio.to_thread(_check_gguf, path, "model")
        return new_manifest(name, digest, path.stat().st_size)

    async def adapter(self, digest: str) -> str:
        """The digest of an adapter that was uploaded.

        Raises:
            InvalidRequestError: it was not, or it is no LoRA adapter in GGUF.
        """
        await asyncio.to_thread(_check_gguf, self.store.required(digest, "adapters"), "adapter")
        return check_digest(digest)

    async def quantize(
        self, manifest: Manifest, kind: str
    ) -> AsyncGenerator[Progress | Manifest, None]:
        """See `quantized`."""
        async for step in quantized(self.store, self._engines.backend, manifest, kind):
            yield step

    async def convert(
        self, name: str, files: dict[str, str], kind: str | None
    ) -> AsyncGenerator[Progress | Manifest, None]:
        """See `converted`."""
        self._check_free(name)
        async for step in converted(self.store, self._engines.backend, name, files, kind):
            yield step

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

    def _serve(self, manifest: Manifest) -> None:
        store = self.store
        template = str(store.template_path(manifest)) if manifest.chat_template else None
        model = ModelConfig(path=str(store.path(manifest.model)), chat_template=template)
        self._engines.add(manifest.name, model, [store.path(d) for d in manifest.adapters])

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

    def _adopt(self, source: ServedModel) -> tuple[str, int]:
        """Take the file of a configured model into the library; its digest and size."""
        try:
            path = reference.resolve(source.config.path or "")
            if not path.is_file() or part_paths(path) != [path]:
                raise InvalidRequestError(
                    f"model '{source.name}' is not one GGUF file, and cannot be copied"
                )
            taken = self.store.new_path()
            self._link_or_copy(path, taken)
            return self.store.adopt(taken)
        except (ModelLoadError, OSError) as error:
            raise InvalidRequestError(
                f"the file of model '{source.name}' cannot be copied: {error}"
            ) from error

    @staticmethod
    def _link_or_copy(path: Path, target: Path) -> None:
        try:
            target.hardlink_to(path.resolve())
        except OSError:
            shutil.copyfile(path, target)


def _check_gguf(path: Path, wanted: str) -> None:
    """Whether a file is of the wanted kind: `model` or `adapter`.

    Raises:
        InvalidRequestError: it is not.
    """
    try:
        header = read_gguf_header(path)
    except ModelLoadError as error:
        raise InvalidRequestError(str(error), param="files") from error
    kind = header.metadata.get("general.type", "model")
    if kind != wanted:
        raise InvalidRequestError(f"this GGUF file holds no {wanted}, but: {kind}", param="files")
