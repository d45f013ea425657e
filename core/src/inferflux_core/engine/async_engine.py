"""The asyncio face of an engine process, which it also keeps alive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from enum import Enum
from typing import Final

import msgspec

from inferflux_core.config.schema import ModelConfig, PluginsConfig, RuntimeConfig
from inferflux_core.engine.collector import OutputCollector
from inferflux_core.engine.framing import ConnectionClosedError
from inferflux_core.engine.process import EngineProcess
from inferflux_core.engine.protocol import (
    Abort,
    Answer,
    Call,
    CallFailed,
    EngineStats,
    Event,
    Generate,
    LoadModel,
    ModelInfo,
    Outputs,
    Ping,
    Pong,
    RequestOutput,
)
from inferflux_core.errors import (
    EngineUnavailableError,
    ModelLoadError,
    QueueFullError,
    StartupError,
    error_from,
)
from inferflux_core.model_signing import SignatureGate
from inferflux_core.models import reference
from inferflux_core.specs import BackendSpec

__all__ = ["AsyncEngine", "EngineState"]

logger = logging.getLogger("inferflux.engine")

_HEARTBEAT_SECONDS: Final = 2.0
_SILENCE_SECONDS: Final = 20.0
_FIRST_BACKOFF_SECONDS: Final = 0.05
_LAST_BACKOFF_SECONDS: Final = 30.0
_STABLE_SECONDS: Final = 30.0


class EngineState(Enum):
    """What an engine can do right now."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"


class AsyncEngine:
    """Serves one model through a child process, and replaces the process when it dies.

    Args:
        model: what to load.
        backend: what executes it.
        runtime: how.
        plugins: settings of the plugin system inside the child.
        on_restart: called whenever the process had to be replaced.
        gate: what models have to pass before they are loaded.
    """

    def __init__(
        self,
        model: ModelConfig,
        backend: BackendSpec,
        runtime: RuntimeConfig,
        plugins: PluginsConfig,
        on_restart: Callable[[], None] = lambda: None,
        gate: SignatureGate | None = None,
    ) -> None:
        self._model = model
        self._backend = backend
        self._runtime = runtime
        self._plugins = plugins
        self._on_restart = on_restart
        self._gate = gate or SignatureGate()
        self._process: EngineProcess | None = None
        self._info: ModelInfo | None = None
        self._collectors: dict[int, OutputCollector] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._calls: dict[int, asyncio.Future[Answer]] = {}
        self._next_id = 0
        self._supervisor: asyncio.Task[None] | None = None
        self._last_pong = 0.0
        self._seconds_per_request = 1.0
        self.state = EngineState.STOPPED
        self.stats = EngineStats()

    @property
    def most_requests(self) -> int:
        """How many can run and wait, all in all."""
        return self.info.max_num_seqs + self._runtime.max_queue

    @property
    def loaded_info(self) -> ModelInfo | None:
        """What was loaded, once it was."""
        return self._info

    @property
    def info(self) -> ModelInfo:
        """What was loaded; only after `start`."""
        assert self._info is not None, "the engine was never started"
        return self._info

    @property
    def pid(self) -> int | None:
        """Process id of the child, while there is one."""
        return self._process.pid if self._process else None

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of the child; None while there is none, or where the system does not tell."""
        return self._process.memory_bytes if self._process else None

    @property
    def num_requests(self) -> int:
        """Requests in the engine's hands, waiting ones included."""
        return len(self._collectors)

    async def start(self, *, retune: bool = False) -> None:
        """Load the model; at first, and whenever the engine was stopped.

        Args:
            retune: measure again what suits this machine.

        Raises:
            StartupError: it cannot be loaded here.
        """
        assert self.state is EngineState.STOPPED, f"the engine is {self.state.value}"
        self.state = EngineState.STARTING
        try:
            await self._launch(retune=retune)
        except BaseException:
            self.state = EngineState.STOPPED
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="engine-supervisor")

    async def stop(self, drain_timeout: float, why: str = "the server is shutting down") -> None:
        """Finish what is running, for at most `drain_timeout` seconds, and end the process.

        Cancelling it leaves an engine that can be stopped again.

        Args:
            drain_timeout: for what runs; no more is taken.
            why: told to requests that do not end in time.
        """
        if self.state is EngineState.STOPPED:
            return
        self.state = EngineState.DRAINING
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_timeout):
                await self._idle.wait()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        self._fail_all(why)
        if self._process is not None:
            await self._process.shut_down()
        self._process = None
        self.state = EngineState.STOPPED

    def next_id(self) -> int:
        """A number for a request or a call, never given out before."""
        self._next_id += 1
        return self._next_id

    async def call(self, call: Call) -> Answer:
        """Have something done that is not a generation; cancelling gives it up.

        Args:
            call: with a `call_id` from `next_id`.

        Raises:
            EngineUnavailableError: the engine is starting, restarting or draining, or was lost meanwhile.
            QueueFullError: `max_queue` calls are waiting already.
            InferFluxError: what the engine refused, or failed at.
        """
        process = self._running_process()
        if len(self._calls) >= self._runtime.max_queue:
            raise QueueFullError(
                f"{len(self._calls)} calls are waiting already; try again later", retry_after=1.0
            )
        answer = self._calls[call.call_id] = asyncio.get_running_loop().create_future()
        self._idle.clear()
        try:
            process.send(call)
            result: Answer = await answer
        except asyncio.CancelledError:
            process.send(Abort(request_id=call.call_id))
            raise
        finally:
            del self._calls[call.call_id]
            self._note_idle()
        if isinstance(result, CallFailed):
            raise error_from(result.code, result.message, result.param)
        return result

    async def generate(self, command: Generate) -> AsyncGenerator[RequestOutput, None]:
        """Run one request, with a `request_id` from `next_id`.

        The request is aborted when the generator is closed early.

        Yields:
            What is new, merged if the consumer is slow. The last output has a finish reason; a failed
            request ends with reason `error`.

        Raises:
            EngineUnavailableError: the engine is starting, restarting or draining.
            QueueFullError: `max_queue` requests are waiting already.
            InvalidRequestError: a number of the request is beyond all bounds.
        """
        process = self._admit()
        request_id = command.request_id
        collector = self._collectors[request_id] = OutputCollector()
        self._idle.clear()
        started = time.monotonic()
        try:
            process.send(command)
            while True:
                output = await collector.get()
                finished = output.finish_reason is not None
                if finished:
                    self._note_duration(time.monotonic() - started)
                    self._forget(request_id)
                yield output
                if finished:
                    return
        finally:
            if request_id in self._collectors:
                self._forget(request_id)
                process.send(Abort(request_id=request_id))

    def _running_process(self) -> EngineProcess:
        if self._process is None or self.state is not EngineState.READY:
            raise EngineUnavailableError(
                f"model '{self._model.name}' is {self.state.value}", retry_after=1.0
            )
        return self._process

    def _admit(self) -> EngineProcess:
        process = self._running_process()
        queued = len(self._collectors) - self.info.max_num_seqs
        if queued >= self._runtime.max_queue:
            wait = self._seconds_per_request * (queued + 1) / self.info.max_num_seqs
            raise QueueFullError(
                f"{queued} requests are waiting already; try again later",
                retry_after=min(max(wait, 1.0), 60.0),
            )
        return process

    def _forget(self, request_id: int) -> None:
        del self._collectors[request_id]
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._collectors and not self._calls:
            self._idle.set()

    def _note_duration(self, seconds: float) -> None:
        """Keep a moving average, to tell refused clients when to come back."""
        self._seconds_per_request += 0.1 * (seconds - self._seconds_per_request)

    async def _launch(self, *, retune: bool = False) -> None:
        name = self._model.path
        model = self._model
        if name is not None:
            model = msgspec.structs.replace(model, path=str(reference.resolve(name)))
        elif self._backend.needs_model:
            raise ModelLoadError(
                f"backend '{self._backend.name}' needs a model",
                hint="set `model.path` in the configuration, or INFERFLUX_MODEL_PATH",
            )
        admission = await self._gate.admit(model, self._runtime)
        load = LoadModel(
            model=model,
            backend=self._backend.name,
            runtime=admission.runtime,
            plugins=self._plugins,
            retune=retune,
            signing=self._gate.rules,
        )
        process, info = await EngineProcess.start(load, self._backend, self._runtime.load_timeout)
        try:
            await asyncio.to_thread(admission.confirm)
        except BaseException:
            await process.kill()
            raise
        self._process = process
        self._info = msgspec.structs.replace(info, signatures=admission.reports)
        self._last_pong = time.monotonic()
        self.state = EngineState.READY

    async def _supervise(self) -> None:
        """Serve, and start over whenever the process is lost."""
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            ready_at = time.monotonic()
            cause = await self._serve()
            if time.monotonic() - ready_at > _STABLE_SECONDS:
                backoff = _FIRST_BACKOFF_SECONDS
            self.state = EngineState.RESTARTING
            logger.error("the engine of model '%s' %s; restarting", self._model.name, cause)
            self._fail_all(f"the engine {cause} while it worked on this request; try again")
            self._on_restart()
            while self.state is not EngineState.READY:
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _LAST_BACKOFF_SECONDS)
                try:
                    await self._launch()
                except StartupError as error:
                    logger.error("restart failed, next try in %.1f s: %s", backoff, error)

    async def _serve(self) -> str:
        """Hand out events until the process is gone; returns how it ended."""
        process = self._process
        assert process is not None
        heartbeat = asyncio.create_task(self._watch(process), name="engine-heartbeat")
        try:
            while True:
                self._dispatch(await process.receive())
        except ConnectionClosedError:
            pass
        finally:
            heartbeat.cancel()
        ended = await process.kill()
        self._process = None
        return ended

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, Outputs):
            for output in event.outputs:
                collector = self._collectors.get(output.request_id)
                if collector is not None:
                    collector.put(output)
            if event.stats is not None:
                self.stats = event.stats
        elif isinstance(event, Pong):
            # Only these come from the thread that takes requests in; the other may go on without it.
            self._last_pong = time.monotonic()
            if event.busy_seconds > self._runtime.hang_timeout:
                self._kill_hung(f"has been busy with one step for {event.busy_seconds:.0f} s")
        elif isinstance(event, Answer):
            waiting = self._calls.get(event.call_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(event)

    async def _watch(self, process: EngineProcess) -> None:
        # At least two pings must have gone unanswered.
        limit = max(3 * _HEARTBEAT_SECONDS, min(_SILENCE_SECONDS, self._runtime.hang_timeout))
        while True:
            process.send(Ping())
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            silence = time.monotonic() - self._last_pong
            if silence > limit:
                self._kill_hung(f"has not answered for {silence:.0f} s")
                return

    def _kill_hung(self, why: str) -> None:
        logger.error("the engine of model '%s' %s; killing it", self._model.name, why)
        if self._process is not None:
            self._process.kill_now()

    def _fail_all(self, message: str) -> None:
        self.stats = EngineStats()
        for call_id, waiting in self._calls.items():
            if not waiting.done():
                waiting.set_result(
                    CallFailed(call_id=call_id, code=EngineUnavailableError.code, message=message)
                )
        for request_id, collector in self._collectors.items():
            collector.put(
                RequestOutput(
                    request_id=request_id,
                    finish_reason="error",
                    error=("engine_error", message),
                )
            )
