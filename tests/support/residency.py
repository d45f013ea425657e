"""Engines that take no time and no memory, and say what was done to them."""

from __future__ import annotations

import asyncio
from typing import Any

from inferflux_api.models.budget import MemoryBudget
from inferflux_api.models.residency import Residency
from inferflux_api.models.served import ServedModel
from inferflux_core.config.schema import ModelConfig
from inferflux_core.engine.async_engine import EngineState
from inferflux_core.engine.protocol import ModelInfo
from inferflux_core.errors import StartupError


class FakeEngine:
    """Loads when `gate` is open, and then takes `size` bytes; fails while there is an `error`."""

    def __init__(self, size: int) -> None:
        self.state = EngineState.STOPPED
        self.size = size
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: StartupError | None = None
        self.stopped = asyncio.Event()
        self.log: list[str] = []
        self.info = ModelInfo(
            name="m",
            backend="fake",
            device="none",
            vocab_size=1,
            max_model_len=1,
            max_num_seqs=1,
        )

    @property
    def memory_bytes(self) -> int | None:
        return self.size if self.state is EngineState.READY else None

    async def start(self, *, retune: bool = False) -> None:
        assert self.state is EngineState.STOPPED
        self.state = EngineState.STARTING
        self.log.append("retune" if retune else "start")
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
        except BaseException:
            self.state = EngineState.STOPPED
            raise
        self.state = EngineState.READY

    async def stop(self, drain_timeout: float, why: str = "") -> None:
        del drain_timeout, why
        if self.state is not EngineState.STOPPED:
            self.log.append("stop")
        await asyncio.sleep(0)
        self.state = EngineState.STOPPED
        self.stopped.set()


class Rig:
    """Models a, b and c of so many bytes, with a budget."""

    def __init__(self, budget: int | None = None, size: int = 100, **config: Any) -> None:
        self.a, self.b, self.c = (
            ServedModel(name, ModelConfig(name=name, **config), "fake", FakeEngine(size), None)  # type: ignore[arg-type]
            for name in "abc"
        )
        self.models = [self.a, self.b, self.c]
        self.residency = Residency(MemoryBudget(budget, self.models), drain_timeout=5.0)
        self.residency.evicts = True

    def engine(self, model: ServedModel) -> FakeEngine:
        assert isinstance(model.engine, FakeEngine)
        return model.engine

    @property
    def loaded(self) -> str:
        return "".join(model.name for model in self.models if model.is_loaded)

    async def use(self, *models: ServedModel) -> None:
        """Hold a lease of each for a moment."""
        for model in models:
            async with self.residency.lease(model):
                assert model.is_loaded


async def turns(count: int = 10) -> None:
    """Let others have as many turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)
