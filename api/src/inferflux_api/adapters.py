"""The LoRA adapters of a model that is served, whatever becomes of its engine process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inferflux_api.adapter_files import (
    AdapterFolder,
    FileVersion,
    allowed_file,
    allowed_folders,
    check_name,
    version_of,
)
from inferflux_core.config.schema import ModelConfig
from inferflux_core.encrypted_adapters import Keyset, adapter_name
from inferflux_core.engine.async_engine import AsyncEngine, EngineState
from inferflux_core.engine.protocol import AdapterUse, LoadAdapter, UnloadAdapter
from inferflux_core.errors import (
    ConfigError,
    EngineUnavailableError,
    InferFluxError,
    InvalidRequestError,
    ModelNotFoundError,
    NotFoundError,
    StartupError,
)

__all__ = ["AdapterRegistry", "ServedAdapter"]

logger = logging.getLogger("inferflux.adapters")

_LOOK_SECONDS: Final = 0.5


@dataclass(slots=True, eq=False)
class ServedAdapter:
    """An adapter under the name clients use.

    Attributes:
        name: what clients say.
        path: its file.
        watched: whether it comes and goes with its file.
        version: of the file, when it was loaded.
        process: the engine process that has it; another one must load it first.
        created: when it was loaded, in seconds since 1970.
        built_in: whether it is a part of its model, and no model of its own.
    """

    name: str
    path: Path
    watched: bool = False
    version: FileVersion | None = None
    process: int | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    built_in: bool = False


class AdapterRegistry:
    """Loads adapters, keeps them loaded, and watches a folder for them.

    Args:
        model: says which there are from the start, and where others may come from.
        engine: of the model.
        is_taken: whether a name belongs to a model, or to another model's adapter.

    Raises:
        ConfigError: a configured name cannot be used.
    """

    def __init__(
        self, model: ModelConfig, engine: AsyncEngine, is_taken: Callable[[str], bool]
    ) -> None:
        self._model = model
        self._engine = engine
        self._is_taken = is_taken
        self._adapters: dict[str, ServedAdapter] = {}
        self._reserved: set[str] = set()
        self._lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        # What was reported, so that it is reported once.
        self._seen: dict[Path, FileVersion] = {}
        self._lost: dict[str, int] = {}
        self._folder_missing = False
        # Not resolved: a link that is set anew, as Kubernetes does with secrets, is followed each time.
        key_file = model.adapters_key_file
        self._key_file = Path(key_file).expanduser().absolute() if key_file else None
        self._keys_version: FileVersion | None = None
        self._refused: set[Path] = set()
        folder = model.adapters_folder
        self._folder = AdapterFolder(Path(folder).expanduser().resolve()) if folder else None
        for adapter in model.adapters:
            self._configure(adapter.name, Path(adapter.path).expanduser().resolve())

    def __iter__(self) -> Iterator[ServedAdapter]:
        listed = [adapter for adapter in self._adapters.values() if not adapter.built_in]
        return iter(sorted(listed, key=lambda adapter: adapter.name))

    def __contains__(self, name: object) -> bool:
        return name in self._adapters or name in self._reserved

    def get(self, name: str) -> ServedAdapter | None:
        """The adapter of that name, if there is one."""
        adapter = self._adapters.get(name)
        return None if adapter is None or adapter.built_in else adapter

    def build_in(self, paths: Sequence[Path]) -> list[AdapterUse]:
        """Make files a part of the model; what is returned belongs to every request for it."""
        for index, path in enumerate(paths):
            # No client can say such a name.
            adapter = ServedAdapter(f"#{index}", path, built_in=True)
            self._adapters[adapter.name] = adapter
        return [AdapterUse(name=f"#{index}") for index in range(len(paths))]

    async def start(self) -> None:
        """Load what is configured, if the model is loaded, and keep it so.

        Raises:
            StartupError: a configured adapter cannot be loaded, the folder cannot be watched, or the key file
                cannot be used.
        """
        if self._folder is not None and not self._folder.path.is_dir():
            raise StartupError(
                f"adapters_folder {self._folder.path} of model '{self._model.name}' is not a folder",
                hint="create it, or remove the key",
            )
        if self._key_file is not None:
            await asyncio.to_thread(Keyset, self._key_file)
            self._keys_version = version_of(self._key_file)
        if self._engine.state is EngineState.READY:
            self._check_host()
            for adapter in self:
                try:
                    await self._load(adapter)
                except InferFluxError as error:
                    raise StartupError(
                        f"adapter '{adapter.name}' of model '{self._model.name}': {error.message}",
                        hint="check `adapters` of the model in the configuration",
                    ) from error
        # If the engine is lost over a file of the folder, the server goes on without that file.
        with suppress(EngineUnavailableError):
            await self._look()
        self._keeper = asyncio.create_task(self._keep(), name=f"adapters-{self._model.name}")

    async def stop(self) -> None:
        """Leave everything as it is."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def ensure(self, uses: Sequence[AdapterUse]) -> None:
        """See to it that the engine process has what a request names.

        Raises:
            ModelNotFoundError: there is no such adapter.
            EngineUnavailableError: it cannot be loaded now.
        """
        for use in uses:
            adapter = self._adapters.get(use.name)
            if adapter is None:
                raise ModelNotFoundError(
                    f"model '{self._model.name}' has no adapter '{use.name}'", param="adapters"
                )
            if adapter.process != self._engine.pid:
                await self._restore(adapter)

    async def load(self, name: str, path: str, *, in_place: bool = False) -> None:
        """Load an adapter while serving.

        Args:
            name: what clients will say.
            path: a file in one of the folders that adapters may come from.
            in_place: put it in the place of the one of that name, if there is one.

        Raises:
            InvalidRequestError: the name is in use, or the file cannot be used with this model.
            NotFoundError: there is no such file.
            EngineUnavailableError: the model is not loaded at the moment.
        """
        check_name(name)
        folders = await asyncio.to_thread(allowed_folders, self._model)
        file = await asyncio.to_thread(allowed_file, path, folders)
        async with self._lock:
            if name in self._adapters and not in_place:
                raise InvalidRequestError(
                    f"the adapter '{name}' has already been loaded; "
                    "to put another in its place, set load_inplace to true",
                    param="lora_name",
                )
            self._check_free(name)
            await self._load(ServedAdapter(name, file))
        logger.info("adapter '%s' of model '%s' was loaded on request", name, self._model.name)

    async def unload(self, name: str) -> None:
        """Forget an adapter; requests that run keep it until they end.

        One that comes with a watched file stays away until the file changes.

        Raises:
            NotFoundError: there is none of that name.
        """
        async with self._lock:
            if self.get(name) is None:
                raise NotFoundError(f"there is no adapter '{name}'", param="lora_name")
            await self._unload(self._adapters[name])
        logger.info("adapter '%s' of model '%s' was unloaded", name, self._model.name)

    def _configure(self, name: str, path: Path) -> None:
        try:
            check_name(name)
            if name in self._adapters:
                raise InvalidRequestError(f"two adapters are called '{name}'")
            self._check_free(name)
        except InferFluxError as error:
            raise ConfigError(
                f"adapters of model '{self._model.name}': {error.message}",
                hint="give the adapter another name",
            ) from error
        self._adapters[name] = ServedAdapter(name, path)

    def _check_host(self) -> None:
        wanted = self._model.adapters or self._folder is not None
        if wanted and not self._engine.info.hosts_adapters:
            raise StartupError(
                f"model '{self._model.name}' does not take adapters with this backend",
                hint="remove `adapters` and `adapters_folder` of the model, or choose another backend",
            )

    def _check_free(self, name: str) -> None:
        if self._is_taken(name):
            raise InvalidRequestError(
                f"'{name}' is the name of a model or of another model's adapter; choose another",
                param="lora_name",
            )

    async def _load(self, adapter: ServedAdapter) -> None:
        """Have the engine load a file, then serve it."""
        engine, process = self._engine, self._engine.pid
        self._reserved.add(adapter.name)
        version = version_of(adapter.path)
        try:
            await engine.call(
                LoadAdapter(
                    call_id=engine.next_id(),
                    name=adapter.name,
                    path=str(adapter.path),
                    key_file=str(self._key_file) if self._key_file else None,
                )
            )
        finally:
            self._reserved.discard(adapter.name)
        adapter.version, adapter.process = version, process
        self._adapters[adapter.name] = adapter

    async def _serve(self, adapter: ServedAdapter) -> None:
        """Serve a file of the folder: loaded now, or together with a model that is not loaded itself."""
        if self._engine.state is EngineState.STOPPED:
            self._adapters[adapter.name] = adapter
            return
        await self._load(adapter)
        logger.info("adapter '%s' of model '%s' was loaded", adapter.name, self._model.name)

    async def _unload(self, adapter: ServedAdapter) -> None:
        del self._adapters[adapter.name]
        engine = self._engine
        if adapter.process == engine.pid and engine.state is EngineState.READY:
            await engine.call(UnloadAdapter(call_id=engine.next_id(), name=adapter.name))

    async def _restore(self, adapter: ServedAdapter) -> None:
        """Load an adapter into an engine process that has replaced the one that had it."""
        async with self._lock:
            current = self._adapters.get(adapter.name)
            if current is not adapter or adapter.process == self._engine.pid:
                return
            try:
                await self._load(adapter)
            except EngineUnavailableError:
                raise
            except InferFluxError as error:
                raise EngineUnavailableError(
                    f"adapter '{adapter.name}' could not be loaded again: {error.message}"
                ) from error

    async def _keep(self) -> None:
        """Follow the folder, and give new engine processes what the old ones had."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if self._engine.state is EngineState.READY:
                    await self._restore_all()
                await self._look()
            except EngineUnavailableError:
                continue
            except Exception:
                logger.exception("the adapters of model '%s' are not kept", self._model.name)

    async def _restore_all(self) -> None:
        process = self._engine.pid
        for adapter in self:
            lost = self._lost.get(adapter.name) == process
            if adapter.process == process or lost or process is None:
                continue
            try:
                await self._restore(adapter)
            except EngineUnavailableError as error:
                if self._engine.pid == process:
                    self._lost[adapter.name] = process
                    logger.error("%s", error.message)

    async def _look(self) -> None:
        """Load what has appeared or changed in the folder, and unload what is gone."""
        if self._folder is None:
            return
        try:
            files = await asyncio.to_thread(self._folder.scan)
        except OSError as error:
            if not self._folder_missing:
                logger.error("adapters_folder cannot be read, what is loaded stays: %s", error)
            self._folder_missing = True
            return
        self._folder_missing = False
        async with self._lock:
            for adapter in [a for a in self if a.watched and a.path not in files]:
                await self._unload(adapter)
                logger.info("adapter '%s' was unloaded: its file is gone", adapter.name)
            self._retry_with_new_keys()
            self._seen = {path: seen for path, seen in self._seen.items() if path in files}
            for path, version in files.items():
                if version is not None and self._seen.get(path) != version:
                    await self._follow(path, version)

    def _retry_with_new_keys(self) -> None:
        """What was refused may be readable with the keys that have arrived since."""
        version = version_of(self._key_file) if self._key_file else None
        if version not in (None, self._keys_version):
            self._keys_version = version
            for path in self._refused:
                self._seen.pop(path, None)

    async def _follow(self, path: Path, version: FileVersion) -> None:
        """Serve a file of the folder that is new or has changed; one that cannot be served is reported."""
        name = adapter_name(path)
        present = self._adapters.get(name)
        self._refused.discard(path)
        try:
            check_name(name)
            if present is not None and present.path != path:
                raise InvalidRequestError(f"the name '{name}' is used for {present.path}")
            self._check_free(name)
            if present is None or present.version != version:
                await self._serve(ServedAdapter(name, path, watched=True, version=version))
            else:
                present.watched = True
        except EngineUnavailableError:
            raise
        except InferFluxError as error:
            self._refused.add(path)
            kept = "; the version before it stays" if present is not None else ""
            logger.error(
                "%s in adapters_folder is not served: %s%s", path.name, error.message, kept
            )
        self._seen[path] = version
