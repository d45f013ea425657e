"""Which models are in memory: loaded when they are asked for, unloaded when nobody uses them.

Everything here runs on one event loop: between two awaits nothing changes. Loads and unloads are tasks of
their own, so that a client that leaves ends only its own waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial

from inferflux_api.models.budget import MemoryBudget
from inferflux_api.models.failure import LoadFailure
from inferflux_api.models.served import ServedModel
from inferflux_core.errors import (
    EngineUnavailableError,
    ModelInUseError,
    ModelNotFoundError,
    StartupError,
)

__all__ = ["Residency"]

logger = logging.getLogger("inferflux.server")

Work = Callable[[], Coroutine[None, None, LoadFailure | None]]


class Residency:
    """Loads and unloads models.

    Args:
        budget: how much memory they may take together.
        drain_timeout: seconds for which requests may go on when a model is drained.

    Attributes:
        evicts: whether models go for others; not while the server starts, which needs them all.
    """

    def __init__(self, budget: MemoryBudget, drain_timeout: float) -> None:
        self._budget = budget
        self._drain_timeout = drain_timeout
        # Loading is bound by disk and memory, and two at once could not be kept within a budget.
        self._one_load = asyncio.Lock()
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._closing = False
        self.evicts = False

    @asynccontextmanager
    async def lease(self, model: ServedModel) -> AsyncGenerator[None, None]:
        """Have the model in memory for as long as the context lasts.

        Raises:
            EngineUnavailableError: it cannot be loaded, or the server is shutting down.
            ModelNotFoundError: it was removed in the meantime.
        """
        await self.acquire(model)
        try:
            yield
        finally:
            self.release(model)

    async def acquire(self, model: ServedModel) -> None:
        """The first half of a lease; wait until the model is loaded. Call `release` once for each.

        Raises:
            EngineUnavailableError: it cannot be loaded, or the server is shutting down.
        """
        self._stay(model)
        model.waiting += 1
        try:
            await self._until_loaded(model)
            model.users += 1
            model.unused.clear()
        finally:
            model.waiting -= 1
            self._note_idle(model)

    def release(self, model: ServedModel) -> None:
        """The second half of a lease."""
        model.users -= 1
        model.last_used = time.time()
        if not model.users:
            model.unused.set()
        self._note_idle(model)

    async def load_at_startup(self, model: ServedModel) -> None:
        """Load a model, unless a request has been quicker.

        Raises:
            StartupError: it cannot be loaded.
        """
        await self._settled(model)
        if model.is_loaded:
            return
        failure = await _outcome(self._begin(model, partial(self._load, model)))
        if failure is not None:
            raise failure.cause

    async def load(self, model: ServedModel) -> None:
        """Load a model now, whatever happened before; nothing happens if it is loaded.

        Raises:
            EngineUnavailableError: it cannot be loaded; the message says why.
        """
        await self._settled(model)
        if not model.is_loaded:
            await self._carry_out(model, partial(self._load, model))

    async def tune(self, model: ServedModel) -> None:
        """Load a model, anew if it is loaded, and measure again what suits this machine.

        Raises:
            ModelInUseError: it is in use.
            EngineUnavailableError: it cannot be loaded; the message says why.
        """
        await self._settled(model)
        self._require_unused(model)
        await self._carry_out(model, partial(self._load, model, retune=True))

    async def unload(self, model: ServedModel, *, drain: bool = False, force: bool = False) -> None:
        """Unload a model; nothing happens if it is not loaded. It comes back when it is asked for.

        Args:
            model: the model.
            drain: let those finish who use it, for a while.
            force: do not wait for anybody.

        Raises:
            ModelInUseError: it is in use, and neither `drain` nor `force` is set.
        """
        await self._settled(model)
        if not model.is_loaded:
            return
        if not (drain or force):
            self._require_unused(model)
        patience = self._drain_timeout if drain and not force else 0.0
        await self._carry_out(model, partial(self._unload, model, patience))

    async def close(self, drain_timeout: float, models: list[ServedModel]) -> None:
        """Give up what is under way, finish what runs, and unload everything."""
        self._closing = True
        for model in models:
            self._stay(model)
        under_way = [model.transition for model in models if model.transition is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await asyncio.gather(*(model.engine.stop(drain_timeout) for model in models))

    async def _until_loaded(self, model: ServedModel) -> None:
        while True:
            self._require_open()
            if model.retired:
                raise ModelNotFoundError(f"model '{model.name}' was removed", param="model")
            if model.transition is None:
                if model.is_loaded:
                    return
                if model.failure is not None and model.failure.until > time.monotonic():
                    raise model.failure.error()
            task = model.transition or self._begin(model, partial(self._load, model))
            failure = await _outcome(task)
            if failure is not None:
                raise failure.error()

    async def _settled(self, model: ServedModel) -> None:
        while model.transition is not None:
            await _outcome(model.transition)
        self._require_open()

    async def _carry_out(self, model: ServedModel, work: Work) -> None:
        failure = await _outcome(self._begin(model, work))
        if failure is not None:
            raise failure.error(in_full=True)
        self._require_open()

    def _require_open(self) -> None:
        if self._closing:
            raise EngineUnavailableError("the server is shutting down")

    @staticmethod
    def _require_unused(model: ServedModel) -> None:
        if model.users or model.waiting:
            raise ModelInUseError(
                f"model '{model.name}' is in use by {model.users + model.waiting} requests; try again "
                "later, or pass `drain` to wait for them or `force` to end them",
                param="model",
            )

    def _begin(self, model: ServedModel, work: Work) -> asyncio.Task[LoadFailure | None]:
        def done(task: asyncio.Task[LoadFailure | None]) -> None:
            del task
            model.transition = None
            self._note_idle(model)

        self._stay(model)
        task = model.transition = asyncio.create_task(work(), name=f"residency-{model.name}")
        # The first callback: whoever waits for the task finds the model settled.
        task.add_done_callback(done)
        return task

    async def _load(self, model: ServedModel, *, retune: bool = False) -> LoadFailure | None:
        async with self._one_load:
            try:
                if model.is_loaded:
                    await self._unload(model, 0.0)
                await self._make_room(model)
                await _start(model, retune=retune)
                await self._make_room(model)
            except StartupError as error:
                await model.engine.stop(0.0)
                logger.error("model '%s' cannot be loaded: %s", model.name, error)
                model.failure = LoadFailure.after(model.failure, model.name, error)
                return model.failure
        model.failure = None
        return None

    async def _make_room(self, model: ServedModel) -> None:
        """Unload others until a model fits: one to be loaded, or one that was, now that it can be measured.

        Raises:
            ModelLoadError: it does not fit, or its file cannot be found.
        """
        while self.evicts and (victim := self._budget.victim(model)) is not None:
            logger.info("model '%s' has to go for '%s'", victim.name, model.name)
            await _outcome(self._begin(victim, partial(self._unload, victim, 0.0)))
        self._budget.check(model)

    async def _unload(self, model: ServedModel, patience: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await model.unused.wait()
        await model.engine.stop(0.0, f"model '{model.name}' was unloaded")
        logger.info("model '%s' is unloaded", model.name)

    def _note_idle(self, model: ServedModel) -> None:
        """Start the clock if nobody uses the model."""
        if model.is_idle and model.idle_ttl is not None and not self._closing:
            self._stay(model)
            model.expires_at = time.time() + model.idle_ttl
            loop = asyncio.get_running_loop()
            self._expiries[model.name] = loop.call_later(model.idle_ttl, self._expire, model)

    def _stay(self, model: ServedModel) -> None:
        """Stop the clock."""
        model.expires_at = None
        expiry = self._expiries.pop(model.name, None)
        if expiry is not None:
            expiry.cancel()

    def _expire(self, model: ServedModel) -> None:
        if model.is_idle:
            logger.info("model '%s' was not used for %g s", model.name, model.idle_ttl)
            model.transition = self._begin(model, partial(self._unload, model, 0.0))


async def _outcome(task: asyncio.Task[LoadFailure | None]) -> LoadFailure | None:
    """Wait for a task; whoever gives up waiting does not end it."""
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


async def _start(model: ServedModel, *, retune: bool) -> None:
    started = time.monotonic()
    await model.engine.start(retune=retune)
    model.known_bytes = model.engine.memory_bytes
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
