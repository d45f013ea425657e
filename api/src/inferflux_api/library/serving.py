"""The models of the library among those that are served."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import msgspec

from inferflux_api.engines import EnginePool
from inferflux_api.library.names import canonical
from inferflux_api.library.registries import Registries
from inferflux_api.library.store import LibraryStore, Manifest, check_digest, new_manifest
from inferflux_api.library.transfer import Progress
from inferflux_api.models.served import ServedModel
from inferflux_core.config.schema import LibraryConfig, ModelConfig
from inferflux_core.errors import InvalidRequestError, ModelLoadError, NotFoundError
from inferflux_core.models import reference
from inferflux_core.models.file_maker import check_makes_files, make_file
from inferflux_core.models.gguf_header import read_gguf_header
from inferflux_core.models.stores import part_paths
from inferflux_core.specs import FileRecipe

__all__ = ["Library"]

logger = logging.getLogger("inferflux.library")

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


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
                    self._serve(served)

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

    async def adapter(self, digest: str) -> str:
        """The digest of an adapter that was uploaded.

        Raises:
            InvalidRequestError: it was not, or it is no LoRA adapter in GGUF.
        """
        if not self.store.has(digest):
            raise InvalidRequestError(
                f"there is no blob {digest}; upload it first", param="adapters"
            )
        await asyncio.to_thread(_check_gguf, self.store.path(digest), "adapter")
        return check_digest(digest)

    async def quantize(
        self, manifest: Manifest, kind: str
    ) -> AsyncGenerator[Progress | Manifest, None]:
        """Make the file of a model smaller; the last thing that comes is its new manifest.

        Raises:
            InvalidRequestError: this backend cannot do it.
        """
        source = self.store.path(manifest.model)
        async for step in self._made(source, f"quantizing model to {kind}", kind):
            if isinstance(step, Progress):
                yield step
            else:
                yield msgspec.structs.replace(manifest, model=step[0], size=step[1])

    async def convert(
        self, name: str, files: dict[str, str], kind: str | None
    ) -> AsyncGenerator[Progress | Manifest, None]:
        """Make a model of safetensors that were uploaded; the last thing that comes is its manifest.

        Args:
            name: of the model.
            files: digests by file name.
            kind: quantization, if its weights shall not stay as they are.

        Raises:
            InvalidRequestError: a file is missing, or the model cannot be converted.
        """
        self._check_free(name)
        folder = self.store.new_path()
        try:
            await asyncio.to_thread(self._lay_out, folder, files)
            async for step in self._made(folder, "converting model", kind):
                yield step if isinstance(step, Progress) else new_manifest(name, *step)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self.store.discard(map(check_digest, files.values()))

    async def _made(
        self, source: Path, status: str, kind: str | None
    ) -> AsyncGenerator[Progress | tuple[str, int], None]:
        """Make a file; the last thing that comes is its digest and size."""
        check_makes_files(self._engines.backend)
        target = self.store.new_path()
        try:
            yield Progress(status)
            async for share in make_file(self._engines.backend, FileRecipe(source, target, kind)):
                yield Progress(status, total=100, completed=round(100 * share))
            yield await asyncio.to_thread(self.store.adopt, target)
        finally:
            target.unlink(missing_ok=True)

    def _lay_out(self, folder: Path, files: dict[str, str]) -> None:
        """A folder in which blobs have names."""
        folder.mkdir(mode=0o700)
        for name, digest in files.items():
            if not _FILE_NAME.fullmatch(name):
                raise InvalidRequestError(f"{name[:128]!r} is no name of a file", param="files")
            if not self.store.has(digest):
                raise InvalidRequestError(
                    f"there is no blob {digest}; upload it first", param="files"
                )
            (folder / name).hardlink_to(self.store.path(digest))

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
        _check_gguf(path, "model")

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
