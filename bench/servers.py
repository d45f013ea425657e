"""Starting a server, seeing when it can answer, what memory it takes, and stopping it."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

import msgspec

from bench import BenchError
from bench.client import Answer, Target
from bench.load import Workload, ask

__all__ = [
    "Memory",
    "RunningServer",
    "ServerSpec",
    "descendants",
    "load_specs",
    "running",
    "tree_memory",
]

_POLL: Final = 0.05
_STOP_SECONDS: Final = 30.0
_LOG_LINES: Final = 15


class ServerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server to start.

    Attributes:
        name: for the tables.
        command: program and arguments; no shell is involved.
        url: where it will answer.
        api_key: sent as a bearer token, if not empty.
        model: the name that requests ask for.
        env: variables set on top of ours.
        start_timeout: seconds until it must answer.
    """

    name: str
    command: str | list[str]
    url: str
    api_key: str = ""
    model: str = "default"
    env: dict[str, str] = {}
    start_timeout: float = 300.0

    @property
    def target(self) -> Target:
        """Where requests go."""
        return Target(self.name, self.url, self.api_key, self.model)

    @property
    def arguments(self) -> list[str]:
        """The command as a list."""
        return shlex.split(self.command) if isinstance(self.command, str) else self.command


class _File(msgspec.Struct, forbid_unknown_fields=True):
    servers: list[ServerSpec]


def load_specs(path: Path) -> list[ServerSpec]:
    """Read servers from a YAML or JSON file with one key, `servers`.

    Raises:
        BenchError: the file cannot be read or has an unknown or missing key.
    """
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=_File).servers
    except (OSError, msgspec.MsgspecError) as error:
        raise BenchError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process and all its descendants, in MiB. `pss` is None where the kernel hides it."""

    peak_rss: float
    pss: float | None


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers."""

    spec: ServerSpec
    pid: int
    ready_seconds: float


@asynccontextmanager
async def running(spec: ServerSpec, workload: Workload) -> AsyncIterator[RunningServer]:
    """Start a server, wait until it has answered a request, and stop it at the end.

    Raises:
        BenchError: its address is taken, it ended, or it was not ready in time. The message holds
            the end of its log.
    """
    await _refuse_taken_address(spec)
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        # Its own session, so that the whole family can be ended without touching anyone else.
        process = await asyncio.create_subprocess_exec(
            *spec.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | spec.env,
            start_new_session=True,
        )
        try:
            await _wait_ready(spec, workload, process, log)
            yield RunningServer(spec, process.pid, time.perf_counter() - started)
        finally:
            await _stop(process)


async def _refuse_taken_address(spec: ServerSpec) -> None:
    host, port = spec.target.address
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return
    writer.close()
    raise BenchError(f"{spec.name}: something else already listens on {host}:{port}")


async def _wait_ready(
    spec: ServerSpec, workload: Workload, process: asyncio.subprocess.Process, log: IO[bytes]
) -> None:
    deadline = time.perf_counter() + spec.start_timeout
    answer = Answer(0.0)
    while (left := deadline - time.perf_counter()) > 0:
        answer = await ask(spec.target, replace(workload, timeout=left), "Hello", tokens=1)
        if not answer.error:
            return
        if process.returncode is not None:
            raise BenchError(f"{spec.name} ended with code {process.returncode}:\n{_tail(log)}")
        if 400 <= answer.status < 500:
            raise BenchError(f"{spec.name} refuses the request: {answer.error}")
        await asyncio.sleep(_POLL)
    raise BenchError(
        f"{spec.name} was not ready in {spec.start_timeout:g} s: {answer.error}\n{_tail(log)}"
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    # What is left of the family: children that outlived it, or all of it if it did not obey.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-_LOG_LINES:])


def tree_memory(root: int) -> Memory:
    """Memory of a process and its descendants, from the kernel's own high-water marks.

    Reading them after a level costs the servers nothing while they are measured.
    """
    peak_kib = 0
    pss_kib: int | None = 0
    for pid in [root, *descendants(root)]:
        peak_kib += _field(pid, "status", "VmHWM") or 0
        pss = _field(pid, "smaps_rollup", "Pss")
        pss_kib = None if pss is None or pss_kib is None else pss_kib + pss
    return Memory(peak_kib / 1024, None if pss_kib is None else pss_kib / 1024)


def descendants(root: int) -> list[int]:
    """Process ids of the children of a process, of theirs, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _field(int(entry.name), "status", "PPid")
            if parent is not None:
                children.setdefault(parent, []).append(int(entry.name))
    family = [root]
    for pid in family:
        family += children.get(pid, [])
    return family[1:]


def _field(pid: int, file: str, name: str) -> int | None:
    """A number from a file in /proc, or None if the process ended or the file is not readable."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(name + ":")), None)
