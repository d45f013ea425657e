"""A model under the name clients use, and what is known about its use."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from inferflux_api.adapters import AdapterRegistry
from inferflux_api.models.failure import LoadFailure
from inferflux_core.config.schema import ModelConfig
from inferflux_core.engine.async_engine import AsyncEngine, EngineState
from inferflux_core.engine.protocol import AdapterUse

__all__ = ["ServedModel"]

_STATES: Final = {EngineState.STOPPED: "unloaded", EngineState.STARTING: "loading"}


class ServedModel:
    """A model under the name clients use.

    Attributes:
        config: what to load.
        adapters: that can be asked for as models.
        built_in: adapters that belong to every request for it.
        idle_ttl: seconds without use after which the model is unloaded.
        users: leases that are held.
        waiting: leases that wait until the model is loaded.
        unused: set while nobody holds a lease.
        last_used: end of the last lease, in seconds since 1970.
        expires_at: when the model will be unloaded, in seconds since 1970.
        transition: the loading or unloading that is under way.
        failure: why it could not be loaded the last time, if so.
        known_bytes: memory it took when it was loaded before.
        retired: no longer served; who still holds it cannot load it again.
    """

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        backend: str,
        engine: AsyncEngine,
        adapters: AdapterRegistry,
    ) -> None:
        self.name = name
        self.config = config
        self.backend = backend
        self.engine = engine
        self.created = int(time.time())
        self.adapters = adapters
        self.built_in: list[AdapterUse] = []
        self.idle_ttl = config.idle_ttl
        self.users = 0
        self.waiting = 0
        self.unused = asyncio.Event()
        self.unused.set()
        self.last_used: float | None = None
        self.expires_at: float | None = None
        self.transition: asyncio.Task[LoadFailure | None] | None = None
        self.failure: LoadFailure | None = None
        self.known_bytes: int | None = None
        self.retired = False

    @property
    def is_loaded(self) -> bool:
        """Whether it takes memory."""
        return self.engine.state is not EngineState.STOPPED

    @property
    def is_idle(self) -> bool:
        """Whether it is loaded and nobody uses it, or waits for it."""
        return self.is_loaded and self.transition is None and not (self.users or self.waiting)

    @property
    def state(self) -> str:
        """`unloaded`, `loading`, `ready`, `restarting`, `draining` or `failed`."""
        if self.failure is not None and not self.is_loaded:
            return "failed"
        return _STATES.get(self.engine.state, self.engine.state.value)
