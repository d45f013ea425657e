"""A PostgreSQL server of the test's own, on the loopback interface, with a folder of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from support.servers import free_port

_START_SECONDS = 20
# The server refuses to run as root; the account comes with its package.
_ACCOUNT = "postgres" if os.geteuid() == 0 else None


class PostgresServer:
    """A process that can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "--no-locale", "--encoding=UTF8", "-A", "trust", "-D", folder / "data")

    @property
    def url(self) -> str:
        user = _ACCOUNT or getpass.getuser()
        return f"postgresql://{user}:hidden@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        arguments = [
            _program("postgres"),
            *("-D", self._folder / "data", "-p", str(self.port), "-k", self._folder),
            *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=20"),
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, user=_ACCOUNT)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "PostgreSQL did not start in time"
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash; what was committed has to be there after the next start."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            # Its children notice, and the lock file of a dead server does no harm.
            time.sleep(0.2)

    def _answers(self) -> bool:
        with suppress(psycopg.Error), psycopg.connect(self.url, connect_timeout=1):
            return True
        return False

    def _run(self, name: str, *arguments: object) -> None:
        command = [_program(name), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, user=_ACCOUNT)


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
