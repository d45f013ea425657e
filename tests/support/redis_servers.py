"""A Redis server of the test's own, on the loopback interface, that keeps nothing unless told to."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from support.servers import free_port

_START_SECONDS = 10


class RedisServer:
    """A process that can be frozen, killed and started again on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing; on Debian: apt-get install redis-server"
        self.port = free_port()
        address = ["--bind", "127.0.0.1", "--port", str(self.port)]
        storage = ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._command = [program, *address, *storage, *options]
        self._log = folder / f"redis-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "Redis did not start in time"
            time.sleep(0.01)

    def freeze(self) -> None:
        """Let it accept connections, and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with closing(
                socket.create_connection(("127.0.0.1", self.port), timeout=1)
            ) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
