"""A PostgreSQL server of the test's own, on the loopback interface, with a folder of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from support.servers import free_port

_START_SECONDS = 20
_CHILDREN = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
# The server refuses to run as root; the account comes with its package.
_ACCOUNT = "postgres" if os.geteuid() == 0 else None


class PostgresServer:
    """Processes that can be frozen, killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []
        self._run("initdb", "--no-locale", "--encoding=UTF8", "-A", "trust", "-D", folder / "data")

    @property
    def url(self) -> str:
        user = _ACCOUNT or getpass.getuser()
        return f"postgresql://{user}:hidden@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        arguments = [
            _program("postgres"),
            *("-D", str(self._folder / "data"), "-p", str(self.port), "-k", str(self._folder)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=20"),
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, user=_ACCOUNT)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "PostgreSQL did not start in time"
            time.sleep(0.05)

    def freeze(self) -> None:
        """Let it accept connections, and answer nothing."""
        self._frozen = self._processes()
        _signal(self._frozen, signal.SIGSTOP)

    def thaw(self) -> None:
        _signal(self._frozen, signal.SIGCONT)

    def kill(self) -> None:
        """As a crash; what was committed has to be there after the next start."""
        if self._process is not None:
            # Its children would finish what they are at.
            _signal(self._processes(), signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _processes(self) -> list[int]:
        assert self._process is not None
        children: list[tuple[int]] = []
        with suppress(psycopg.Error), psycopg.connect(self.url, connect_timeout=2) as connection:
            children = connection.execute(_CHILDREN).fetchall()
        return [self._process.pid, *(pid for (pid,) in children)]

    def _answers(self) -> bool:
        with suppress(psycopg.Error), psycopg.connect(self.url, connect_timeout=1):
            return True
        return False

    def _run(self, name: str, *arguments: object) -> None:
        command = [_program(name), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, user=_ACCOUNT)


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _program(name: str) -> str:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    path = os.pathsep.join([*map(str, reversed(folders)), os.environ.get("PATH", "")])
    program = shutil.which(name, path=path)
    assert program, f"{name} is missing; on Debian: apt-get install postgresql"
    return program


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="inferflux-postgres-"))
    if _ACCOUNT:
        shutil.chown(folder, _ACCOUNT)
    server = PostgresServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
