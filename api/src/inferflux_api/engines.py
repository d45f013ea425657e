"""The engines of a server, by model name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from inferflux_api.adapters import AdapterRegistry
from inferflux_api.models.budget import MemoryBudget
from inferflux_api.models.residency import Residency
from inferflux_api.models.served import ServedModel
from inferflux_core.auth import Principal
from inferflux_core.config import Config, backend_name, model_configs
from inferflux_core.config.schema import ModelConfig
from inferflux_core.engine.async_engine import AsyncEngine, EngineState
from inferflux_core.engine.protocol import AdapterUse
from inferflux_core.errors import (
    ConfigError,
    InvalidRequestError,
    ModelNotFoundError,
    PluginError,
)
from inferflux_core.model_signing import SignatureGate
from inferflux_core.models.reference import default_name
from inferflux_core.plugins import PluginManager
from inferflux_core.specs import BackendSpec

__all__ = ["EnginePool", "ServedModel", "Target", "VisibleModels"]

logger = logging.getLogger("inferflux.server")


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for.

    Attributes:
        name: as clients say it.
        model: what runs.
        adapters: applied to it.
    """

    name: str
    model: ServedModel
    adapters: list[AdapterUse]

    @property
    def is_adapter(self) -> bool:
        """Whether the name is an adapter's, and not the model's own."""
        return self.name != self.model.name


class EnginePool:
    """One engine per model.

    Attributes:
        backend: that runs them.
        configured: names of the models that the configuration gives, which stay.

    Args:
        config: the whole configuration.
        plugins: where backends come from.
        on_restart: called with model and backend whenever an engine process was replaced.

    Raises:
        ConfigError: two models share a name, or a key for their signatures cannot be read.
        PluginError: the backend is missing, broken or cannot run on this machine.
    """

    def __init__(
        self, config: Config, plugins: PluginManager, on_restart: Callable[[str, str], None]
    ) -> None:
        backend = plugins.backend(backend_name(config))
        plugins.options(
            plugins.scheduler(config.runtime.scheduler), config.runtime.scheduler_options
        )
        probe = plugins.probe(backend)
        if not probe.available:
            raise PluginError(
                f"backend '{backend.name}' cannot run on this machine: {probe.reason}",
                hint="choose another `runtime.backend`; there is no automatic fall-back",
            )
        logger.info("backend '%s': %s", backend.name, probe.reason)
        self.backend, self._config, self._on_restart = backend, config, on_restart
        self._gate = SignatureGate(config.model_signing)
        self._models: dict[str, ServedModel] = {}
        configured = _with_names(config, backend)
        self.configured = frozenset(configured)
        for name, model in configured.items():
            self._models[name] = self._served(name, model)
        self._residency = Residency(
            MemoryBudget(config.runtime.memory_budget_bytes, self._models.values()),
            config.server.drain_timeout,
        )
        self.lease = self._residency.lease
        self.acquire = self._residency.acquire
        self.release = self._residency.release
        self.load = self._residency.load
        self.unload = self._residency.unload
        self.tune = self._residency.tune
        self._started = False

    def __iter__(self) -> Iterator[ServedModel]:
        # Models come and go while somebody walks through them.
        return iter(tuple(self._models.values()))

    def seen_by(self, principal: Principal) -> VisibleModels:
        """The models that somebody may use."""
        return VisibleModels(self, principal)

    def get(self, name: str | None, principal: Principal | None = None) -> ServedModel:
        """The model of that name; the only one, if the request names none.

        Args:
            name: of the model.
            principal: who asks, if others than administrators do.

        Raises:
            ModelNotFoundError: there is none, or none that the principal may use.
        """
        models = list(self if principal is None else self.seen_by(principal))
        if name is None and len(models) == 1:
            return models[0]
        model = next((model for model in models if model.name == name), None)
        if model is None:
            known = ", ".join(self._names(principal))
            problem = f"model '{name}' is not served here" if name else "the request names no model"
            raise ModelNotFoundError(f"{problem}; there is: {known}", param="model")
        return model

    def resolve(self, name: str | None, principal: Principal | None = None) -> Target:
        """The model or adapter of that name; the only model, if the request names none.

        Args:
            name: of either.
            principal: as for `get`.

        Raises:
            ModelNotFoundError: as in `get`.
        """
        if name is not None and name not in self._models:
            for model in self:
                if model.adapters.get(name) is not None and _may_use(principal, model.name, name):
                    return Target(name, model, [*model.built_in, AdapterUse(name=name)])
        model = self.get(name, principal)
        if not _may_use(principal, model.name):
            raise ModelNotFoundError(f"model '{model.name}' is not served here", param="model")
        return Target(model.name, model, list(model.built_in))

    @property
    def ready(self) -> bool:
        """Whether every model answers, once it is loaded: those that nobody needs now do not count."""
        lost = any(model.engine.state is EngineState.RESTARTING for model in self)
        return self._started and not lost

    async def start(self) -> None:
        """Load every model that is not left until it is asked for, one after the other.

        Raises:
            StartupError: a model cannot be loaded.
        """
        for model in self:
            if model.config.load == "startup":
                await self._residency.load_at_startup(model)
            await model.adapters.start()
        self._residency.evicts = True
        self._started = True

    async def stop(self, drain_timeout: float) -> None:
        """Finish what runs, for at most `drain_timeout` seconds, and end every engine."""
        await asyncio.gather(*(model.adapters.stop() for model in self))
        await self._residency.close(drain_timeout, list(self))

    def _names(self, principal: Principal | None) -> Iterator[str]:
        for model in self:
            names = (model.name, *(adapter.name for adapter in model.adapters))
            yield from (name for name in names if _may_use(principal, model.name, name))

    def add(self, name: str, model: ModelConfig, adapters: Sequence[Path] = ()) -> None:
        """Serve one more model, which is loaded when it is asked for.

        Args:
            name: what clients say.
            model: its files.
            adapters: files that are a part of it.

        Raises:
            InvalidRequestError: the name is taken.
        """
        if name in self._models or self._is_taken(name, name):
            raise InvalidRequestError(f"the name '{name}' is taken already", param="model")
        model = msgspec.structs.replace(model, name=name, load="on_demand")
        served = self._served(name, model)
        served.built_in = served.adapters.build_in(adapters)
        self._models[name] = served

    async def remove(self, name: str) -> None:
        """Serve a model no longer, once those who use it are done.

        Raises:
            InvalidRequestError: it is named in the configuration.
            ModelNotFoundError: there is none of that name.
        """
        if name in self.configured:
            raise InvalidRequestError(
                f"model '{name}' is named in the server's configuration; remove it there",
                param="model",
            )
        model = self.get(name)
        model.retired = True
        await self.unload(model, drain=True)
        await model.adapters.stop()
        self._models.pop(name, None)

    def _served(self, name: str, model: ModelConfig) -> ServedModel:
        engine = AsyncEngine(
            model,
            self.backend,
            self._config.runtime,
            self._config.plugins,
            on_restart=partial(self._on_restart, name, self.backend.name),
            gate=self._gate,
        )
        adapters = AdapterRegistry(model, engine, partial(self._is_taken, name))
        return ServedModel(name, model, self.backend.name, engine, adapters)

    def _is_taken(self, owner: str, name: str) -> bool:
        """Whether an adapter of one model may not be called so."""
        others = (model for model in self if model.name != owner)
        return name in self.configured or any(name in model.adapters for model in others)


@dataclass(frozen=True, slots=True)
class VisibleModels:
    """The models and adapters that a principal may use, and so may know of."""

    _pool: EnginePool
    _principal: Principal

    def __iter__(self) -> Iterator[ServedModel]:
        return (model for model in self._pool if any(True for _ in self.names(model)))

    def names(self, model: ServedModel) -> Iterator[str]:
        """Names to ask for a model by: its own, and those of its adapters."""
        names = (model.name, *(adapter.name for adapter in model.adapters))
        return (name for name in names if _may_use(self._principal, model.name, name))

    def get(self, name: str | None) -> ServedModel:
        """As `EnginePool.get`."""
        return self._pool.get(name, self._principal)

    def resolve(self, name: str | None) -> Target:
        """As `EnginePool.resolve`."""
        return self._pool.resolve(name, self._principal)


def _may_use(principal: Principal | None, *names: str) -> bool:
    return principal is None or any(principal.may_use(name) for name in names)


def _with_names(config: Config, backend: BackendSpec) -> dict[str, ModelConfig]:
    models: dict[str, ModelConfig] = {}
    for model in model_configs(config):
        name = model.name or default_name(model.path or backend.name)
        if name in models:
            raise ConfigError(f"two models have the name '{name}'")
        models[name] = msgspec.structs.replace(model, name=name)
    return models
