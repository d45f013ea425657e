"""The engine process: one model, one socket, one loop.

Two threads. The reader takes commands off the socket and turns prompts into requests; the main thread
owns the runner and never waits for the socket while there is work. (OpenMP keeps one worker pool per
calling thread, so the model is always executed by the same one.)
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections import deque

from inferflux_core.engine.assembly import LoadedEngine, assemble
from inferflux_core.engine.calls import CallHandler
from inferflux_core.engine.engine import Engine
from inferflux_core.engine.failures import as_told
from inferflux_core.engine.framing import ConnectionClosedError, read_frame
from inferflux_core.engine.protocol import (
    Abort,
    Call,
    Event,
    Generate,
    LoadFailed,
    LoadModel,
    Outputs,
    Ping,
    Pong,
    Ready,
    RequestOutput,
    Shutdown,
    decode_command,
    encode_frame,
)
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import RunnerError
from inferflux_core.errors import InferFluxError, StartupError

__all__ = ["main"]

_IDLE_GC_AFTER = 64


class EngineProcess:
    """Serves one model over one socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._send_lock = threading.Lock()
        self._loaded: LoadedEngine | None = None
        self._ready = threading.Event()
        self._inbox: deque[Request | Abort] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._step_started: float | None = None

    def run(self) -> int:
        """Load the model and serve until told to stop; returns the exit status."""
        command = decode_command(read_frame(self._connection))
        assert isinstance(command, LoadModel)
        # The reader starts before the model is loaded: threads made after OpenMP has bound the main
        # thread to a core would share that core.
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        try:
            loaded = assemble(command)
        except StartupError as error:
            self._send(LoadFailed(message=error.message, hint=error.hint))
            return 1
        self._loaded = loaded
        self._ready.set()
        self._send(Ready(info=loaded.info))
        engine = loaded.engine
        try:
            self._serve(engine, loaded.calls)
        except RunnerError as error:
            self._send(Outputs(outputs=engine.fail_all(str(error)), stats=engine.stats()))
            return 1
        finally:
            engine.close()
        return 0

    def _serve(self, engine: Engine, calls: CallHandler) -> None:
        # What lives now lives for ever; collections during a step would stall every stream.
        gc.collect()
        gc.freeze()
        gc.disable()
        steps = 0
        while not self._stopping:
            self._drain_inbox(engine, calls)
            self._advance(calls)
            if engine.has_unfinished_requests:
                self._step_started = time.monotonic()
                for outputs in engine.step():
                    if outputs:
                        self._send(Outputs(outputs=outputs, stats=engine.stats()))
                self._step_started = None
                steps += 1
                continue
            if calls.busy:
                steps += 1
                continue
            # Aborted requests have no last output; say that nothing runs any more.
            self._send(Outputs(outputs=[], stats=engine.stats()))
            if steps >= _IDLE_GC_AFTER:
                gc.collect()
                steps = 0
            self._wake.wait()
            self._wake.clear()

    def _drain_inbox(self, engine: Engine, calls: CallHandler) -> None:
        """Take in what has arrived."""
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, Request):
                engine.add_request(item)
            else:
                engine.abort_request(item.request_id)
                calls.abort(item.request_id)

    def _advance(self, calls: CallHandler) -> None:
        """Do a little of what is not generation: answers in progress must not wait for more."""
        if not calls.busy:
            return
        self._step_started = time.monotonic()
        answer = calls.advance()
        self._step_started = None
        if answer is not None:
            self._send(answer)

    def _read(self) -> None:
        try:
            while True:
                command = decode_command(read_frame(self._connection))
                if isinstance(command, Ping):
                    started = self._step_started
                    self._send(Pong(busy_seconds=time.monotonic() - started if started else 0.0))
                elif isinstance(command, Shutdown):
                    self._stopping = True
                    self._wake.set()
                else:
                    self._ready.wait()
                    assert self._loaded is not None
                    self._accept(command, self._loaded)
        except (ConnectionClosedError, OSError):
            # The parent is gone; nobody is left to answer.
            os._exit(0)

    def _accept(self, command: Generate | Abort | Call | LoadModel, loaded: LoadedEngine) -> None:
        if isinstance(command, Generate):
            try:
                request = loaded.factory.build(command)
            except Exception as error:
                self._send(Outputs(outputs=[_refusal(command.request_id, as_told(error))]))
                return
            first = RequestOutput(
                request_id=request.request_id,
                num_prompt_tokens=request.num_prompt_tokens,
                in_reasoning=request.in_reasoning,
            )
            self._send(Outputs(outputs=[first]))
            self._inbox.append(request)
        elif isinstance(command, Abort):
            self._inbox.append(command)
        elif not isinstance(command, LoadModel):
            answer = loaded.calls.receive(command)
            if answer is not None:
                self._send(answer)
                return
        self._wake.set()

    def _send(self, event: Event) -> None:
        frame = encode_frame(event)
        with self._send_lock:
            self._connection.sendall(frame)


def _refusal(request_id: int, error: InferFluxError) -> RequestOutput:
    return RequestOutput(
        request_id=request_id,
        finish_reason="error",
        error=(error.code, error.message),
        param=error.param,
    )


def main() -> None:
    """Entry point: `python -m inferflux_core.engine.child FD`."""
    # The parent decides when to stop; a Ctrl-C in its terminal reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The reader must get the interpreter back quickly while the main thread runs Python code.
    sys.setswitchinterval(5e-4)
    with contextlib.closing(socket.socket(fileno=int(sys.argv[1]))) as connection:
        status = EngineProcess(connection).run()
        connection.shutdown(socket.SHUT_WR)
    # Skip interpreter teardown: native libraries have threads that do not survive it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
