"""The engines of a server, by model name."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from inferflux_core.config import Config, backend_name, model_configs
from inferflux_core.config.schema import ModelConfig
from inferflux_core.engine.async_engine import AsyncEngine, EngineState
from inferflux_core.errors import ConfigError, ModelNotFoundError, PluginError
from inferflux_core.models.reference import default_name
from inferflux_core.plugins import PluginManager
from inferflux_core.specs import BackendSpec

__all__ = ["EnginePool", "ServedModel"]

logger = logging.getLogger("inferflux.server")


class ServedModel:
    """A model under the name clients use."""

    def __init__(self, name: str, backend: str, engine: AsyncEngine) -> None:
        self.name = name
        self.backend = backend
        self.engine = engine
        self.created = int(time.time())


class EnginePool:
    """One engine per configured model.

    Args:
        config: the whole configuration.
        plugins: where backends come from.
        on_restart: called with model and backend whenever an engine process was replaced.

    Raises:
        ConfigError: two models share a name.
        PluginError: the backend is missing, broken or cannot run on this machine.
    """

    def __init__(
        self, config: Config, plugins: PluginManager, on_restart: Callable[[str, str], None]
    ) -> None:
        backend = plugins.backend(backend_name(config))
        plugins.scheduler(config.runtime.scheduler)
        probe = plugins.probe(backend)
        if not probe.available:
            raise PluginError(
                f"backend '{backend.name}' cannot run on this machine: {probe.reason}",
                hint="choose another `runtime.backend`; there is no automatic fall-back",
            )
        logger.info("backend '%s': %s", backend.name, probe.reason)
        self._models: dict[str, ServedModel] = {}
        for model in _with_names(config, backend):
            assert model.name is not None
            if model.name in self._models:
                raise ConfigError(f"two models have the name '{model.name}'")
            engine = AsyncEngine(
                model,
                backend,
                config.runtime,
                config.plugins,
                on_restart=partial(on_restart, model.name, backend.name),
            )
            self._models[model.name] = ServedModel(model.name, backend.name, engine)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str | None) -> ServedModel:
        """The model of that name; the only one, if the request names none.

        Raises:
            ModelNotFoundError: there is none.
        """
        if name is None and len(self._models) == 1:
            return next(iter(self._models.values()))
        model = self._models.get(name or "")
        if model is None:
            known = ", ".join(self._models)
            problem = f"model '{name}' is not served here" if name else "the request names no model"
            raise ModelNotFoundError(f"{problem}; there is: {known}", param="model")
        return model

    @property
    def ready(self) -> bool:
        """Whether every engine answers."""
        return all(model.engine.state is EngineState.READY for model in self)

    async def start(self) -> None:
        """Load every model, one after the other: loading is bound by disk and memory.

        Raises:
            StartupError: a model cannot be loaded.
        """
        for model in self:
            started = time.monotonic()
            await model.engine.start()
            info = model.engine.info
            logger.info(
                "model '%s' is ready after %.1f s on %s: %d sequences of %d tokens, %s",
                model.name,
                time.monotonic() - started,
                info.device,
                info.max_num_seqs,
                info.max_model_len,
                ", ".join(f"{k} {v}" for k, v in info.details.items()) or "no details",
            )

    async def stop(self, drain_timeout: float) -> None:
        """Finish what runs, for at most `drain_timeout` seconds, and end every engine."""
        await asyncio.gather(*(model.engine.stop(drain_timeout) for model in self))


def _with_names(config: Config, backend: BackendSpec) -> list[ModelConfig]:
    return [
        msgspec.structs.replace(m, name=m.name or default_name(m.path or backend.name))
        for m in model_configs(config)
    ]
