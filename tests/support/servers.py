"""Starting real servers for tests."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

KEYS = [
    {"key": "all-key", "name": "all", "scopes": ["generate", "read", "admin"]},
    {"key": "generate-key", "name": "generate", "scopes": ["generate"], "tenant": "acme"},
    {"key": "read-key", "name": "read", "scopes": ["read"]},
]
SCRIPTED = Path(__file__).parent / "scripted"
START_SECONDS = 60


@dataclass(slots=True)
class RunningServer:
    """A server process and a client for it; with `tls`, what connects to it has to do so by that."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def client(self, key: str | None = "all-key") -> httpx2.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(
            base_url=self.url, headers=headers, timeout=60, verify=self.tls or True
        )

    def ready(self) -> bool:
        try:
            return self._get("/readyz").status_code == 200
        except httpx2.HTTPError:
            return False

    def _get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=5, verify=self.tls or True)

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not self.ready():
            assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"not ready in time:\n{self.log.read_text()}"
            time.sleep(0.05)

    def engine_pid(self) -> int:
        """The process that runs the model."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for pid in children.split():
            if b"inferflux_core.engine.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
        raise AssertionError("there is no engine process")

    def stop(self) -> int:
        """SIGTERM, as an operator would; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "inferflux_api.main", "--config", str(config), *arguments]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("INFERFLUX")}
    path = os.pathsep.join([str(SCRIPTED), inherited.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**inherited, "PYTHONPATH": path, **(extra or {})}


@contextmanager
def running_server(
    folder: Path,
    config: dict[str, Any],
    env: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[RunningServer]:
    """Serve `config`, with the keys above unless it has its own; ends the process afterwards."""
    port = free_port()
    tree: dict[str, Any] = {
        "auth": {"api_keys": KEYS},
        "runtime": {"backend": "scripted"},
        **config,
    }
    tree["server"] = {"port": port, **tree.get("server", {})}
    file = folder / f"server-{port}.yaml"
    file.write_text(yaml.safe_dump(tree))
    log = folder / f"server-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(file), stdout=output, stderr=output, env=environment(env), cwd=folder
        )
    server = RunningServer(process, port, log, tls)
    try:
        server.wait_ready()
        yield server
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
