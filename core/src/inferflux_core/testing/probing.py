"""Watching a backend's probe, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from inferflux_core.plugins import PluginManager
from inferflux_core.specs import Probe

__all__ = ["ObservedProbe", "observe_probe"]

HEAVY: Final = frozenset({"cupy", "jax", "llama_cpp", "mlx", "tensorflow", "torch"})
"""Libraries that a probe may not import: they take seconds, memory and devices."""


class ObservedProbe(msgspec.Struct, frozen=True):
    """What a probe answered and what it left behind.

    Attributes:
        answer: what it returned.
        seconds: how long it took.
        traces: lasting changes to its process, in words; there should be none.
    """

    answer: Probe
    seconds: float
    traces: list[str]


def observe_probe(name: str) -> ObservedProbe:
    """Load a backend in a fresh process, and probe.

    Raises:
        AssertionError: the process fails.
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", __name__, name],
        env=env,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"the probe ended its process:\n{done.stderr.decode()}"
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=ObservedProbe)


def _state() -> dict[str, set[object]]:
    """What a probe could change, by name."""
    state: dict[str, set[object]] = {
        "environment variables": set(os.environ.items()),
        "threads": {thread.name for thread in threading.enumerate()},
        "the working directory": {Path.cwd()},
    }
    for name, folder in (("open files", "fd"), ("child processes", "task")):
        path = Path("/proc/self") / folder
        if path.exists():
            state[name] = set(_descriptors(path) if folder == "fd" else _children(path))
    return state


def _descriptors(folder: Path) -> list[str]:
    # Reading the folder opens a descriptor, which is gone when its link is read.
    return [str(entry.readlink()) for entry in folder.iterdir() if entry.is_symlink()]


def _children(folder: Path) -> list[str]:
    files = [task / "children" for task in folder.iterdir()]
    return [pid for file in files if file.exists() for pid in file.read_text().split()]


def main(name: str) -> None:
    """Print an `ObservedProbe` as JSON."""
    plugins = PluginManager()
    spec = plugins.backend(name)
    before = _state()
    started = time.perf_counter()
    answer = plugins.probe(spec)
    seconds = time.perf_counter() - started
    after = _state()
    traces = [f"it changes {what}" for what in before if before[what] != after[what]]
    traces += [f"it imports {library}" for library in sorted(HEAVY & set(sys.modules))]
    report = msgspec.json.encode(ObservedProbe(answer, seconds, traces))
    sys.stdout.write(f"\n{report.decode()}\n")


if __name__ == "__main__":
    main(sys.argv[1])
