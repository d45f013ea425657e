"""Starting an engine process and talking to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from inferflux_core.engine.framing import ConnectionClosedError, read_frame_async
from inferflux_core.engine.protocol import (
    Command,
    Event,
    LoadFailed,
    LoadModel,
    ModelInfo,
    Ready,
    Shutdown,
    decode_event,
    encode_frame,
)
from inferflux_core.errors import InvalidRequestError, ModelLoadError, StartupError
from inferflux_core.specs import BackendSpec

__all__ = ["EngineProcess"]

_KILL_GRACE_SECONDS: Final = 5.0
_SHUTDOWN_GRACE_SECONDS: Final = 10.0
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_SOCKET_BUFFER_BYTES: Final = 4 * 1024 * 1024


class EngineProcess:
    """A child process that has loaded a model."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(
        cls, load: LoadModel, backend: BackendSpec, load_timeout: float
    ) -> tuple[EngineProcess, ModelInfo]:
        """Spawn a process, let it load the model and run its kernels once.

        Raises:
            StartupError: it refused, died or took longer than `load_timeout` seconds.
        """
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        # Connected before there is a process: what is cancelled meanwhile leaves none behind.
        with theirs:
            reader, writer = await _connect(ours)
            try:
                process = _spawn(theirs, backend)
            except BaseException:
                writer.close()
                raise
        engine = cls(process, reader, writer)
        engine.send(load)
        try:
            async with asyncio.timeout(load_timeout):
                event = await engine.receive()
        except TimeoutError:
            await engine.kill()
            raise StartupError(
                f"loading the model took longer than {load_timeout:g} seconds",
                hint="raise `runtime.load_timeout`",
            ) from None
        except ConnectionClosedError:
            raise StartupError(
                f"the engine process {await engine.kill()} while it loaded the model",
                hint=backend.crash_hint,
            ) from None
        except BaseException:
            await engine.kill()
            raise
        if isinstance(event, LoadFailed):
            await engine.kill()
            raise ModelLoadError(event.message, hint=event.hint)
        assert isinstance(event, Ready)
        return engine, event.info

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory, None where there is no /proc or no process any more."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        except OSError:
            return None
        return int(fields[1]) * _PAGE_BYTES

    def send(self, command: Command) -> None:
        """Queue a command; a dead process is noticed by `receive`, not here.

        Raises:
            InvalidRequestError: it holds a number that does not fit into 64 bits.
        """
        try:
            frame = encode_frame(command)
        except OverflowError as error:
            raise InvalidRequestError("a number of the request is out of range") from error
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def receive(self) -> Event:
        """The next event.

        Raises:
            ConnectionClosedError: the process is gone, or on its way.
        """
        return decode_event(await read_frame_async(self._reader))

    async def shut_down(self) -> None:
        """Let the process end its step and put away what it keeps, then be gone."""
        self.send(Shutdown())
        await _wait(self._process, _SHUTDOWN_GRACE_SECONDS)
        await self.kill()

    async def kill(self) -> str:
        """End the process if it still runs, and say how it ended."""
        self._writer.close()
        status = await _wait(self._process, _KILL_GRACE_SECONDS)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        return _describe(status)

    def kill_now(self) -> None:
        """End a process that hangs, at once."""
        self._process.kill()


async def _connect(ours: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(sock=ours, limit=_SOCKET_BUFFER_BYTES)
    except BaseException:
        ours.close()
        raise


def _spawn(theirs: socket.socket, backend: BackendSpec) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "inferflux_core.engine.child", str(theirs.fileno())]
    return subprocess.Popen(  # noqa: S603 - our own program
        command,
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env=_environment(backend),
    )


def _environment(backend: BackendSpec) -> dict[str, str]:
    """What the child sees: no secrets of the server, and what the backend's libraries need."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("INFERFLUX_")}
    return {**backend.environment, **inherited}


async def _wait(process: subprocess.Popen[bytes], grace: float) -> int:
    """Wait for a process that was told to end, or has lost its socket; kill it after `grace` seconds."""
    try:
        return await asyncio.to_thread(process.wait, grace)
    except subprocess.TimeoutExpired:
        process.kill()
        return await asyncio.to_thread(process.wait)


def _describe(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
