"""Keep a server busy for a long time, and see that nothing is lost or leaks: `python -m bench.soak --help`.

Users ask for answers of all lengths, leave in the middle of some, and the engine process is killed now and
then. Every request must end, an error is an answer only around a kill, memory must not grow, and in the end
nothing may be left running.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from bench import BenchError
from bench.client import Connection, Target
from bench.compare import progress
from bench.load import Workload
from bench.prompts import text
from bench.servers import RunningServer, descendants, load_specs, running, tree_memory

__all__ = ["main"]

_REQUEST_SECONDS: Final = 600.0
_GRACE_SECONDS: Final = 15.0
_SAMPLES: Final = 40
_GROWTH: Final = 1.10
_IDLE_GAUGES: Final = ("inferflux_requests_running", "inferflux_requests_waiting")


@dataclass(slots=True)
class Tally:
    """What has happened so far. `kills` are clock times, `memory` is PSS in MiB."""

    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    kills: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0 if nothing was lost and nothing grew."""
    options = _parser().parse_args(arguments)
    try:
        problems = uvloop.run(_soak(options))
    except BenchError as error:
        problems = [str(error)]
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


async def _soak(options: argparse.Namespace) -> list[str]:
    (spec,) = load_specs(options.servers)[:1]
    tally = Tally()
    async with running(spec, Workload()) as server:
        end = time.monotonic() + 60 * options.minutes
        async with asyncio.TaskGroup() as group:
            for user in range(options.users):
                group.create_task(_user(spec.target, tally, random.Random(user), end))
            group.create_task(_observe(server, tally, end))
            if options.kill_every:
                group.create_task(_kill(server, tally, 60 * options.kill_every, end))
        await asyncio.sleep(2)
        left = await asyncio.to_thread(_gauges, spec.target)
    print(
        f"{sum(tally.outcomes.values())} requests: {dict(tally.outcomes)}, {tally.tokens} tokens, "
        f"engine killed {len(tally.kills)} times\n"
        f"PSS MiB: {', '.join(f'{m:.0f}' for m in tally.memory)}"
    )
    return [*tally.unexplained[:5], *_growth(tally), *left]


async def _user(target: Target, tally: Tally, chance: random.Random, end: float) -> None:
    systems = [text(150, f"system {i}") for i in range(4)]
    while time.monotonic() < end:
        tokens = chance.choice((1, 8, 32, 128))
        body: dict[str, object] = {
            "messages": [
                {"role": "system", "content": chance.choice(systems)},
                {"role": "user", "content": text(chance.randint(1, 300), str(chance.random()))},
            ],
            "max_tokens": tokens,
            "temperature": chance.choice((0.0, 0.8)),
            "stream": True,
            "ignore_eos": True,
            "priority": chance.choice((0, 0, 0, 5)),
        }
        leaves_after = chance.uniform(0.05, 5) if chance.random() < 0.2 else _REQUEST_SECONDS
        started = time.monotonic()
        async with Connection(target) as connection:
            answer = await connection.send(target.request(body), leaves_after)
        if not answer.error:
            tally.outcomes["complete"] += 1
            tally.tokens += answer.completion_tokens
        elif leaves_after < _REQUEST_SECONDS and "no complete answer" in answer.error:
            tally.outcomes["left"] += 1
        elif _near_kill(tally, started, time.monotonic()):
            tally.outcomes["told of the lost engine"] += 1
            await asyncio.sleep(0.5)
        else:
            tally.outcomes["failed"] += 1
            tally.unexplained.append(answer.error)
            await asyncio.sleep(0.5)


def _near_kill(tally: Tally, started: float, ended: float) -> bool:
    return any(started - _GRACE_SECONDS <= kill <= ended for kill in tally.kills)


async def _observe(server: RunningServer, tally: Tally, end: float) -> None:
    pause = max((end - time.monotonic()) / _SAMPLES, 0.1)
    while time.monotonic() < end:
        await asyncio.sleep(pause)
        tally.memory.append((await asyncio.to_thread(tree_memory, server.pid)).pss or 0.0)
        progress(f"{tally.memory[-1]:.0f} MiB, {dict(tally.outcomes)}")


async def _kill(server: RunningServer, tally: Tally, pause: float, end: float) -> None:
    while time.monotonic() + pause < end:
        await asyncio.sleep(pause)
        children = descendants(server.pid)
        engines = [pid for pid in children if "engine" in _command(pid)]
        if engines:
            tally.kills.append(time.monotonic())
            os.kill(engines[0], signal.SIGKILL)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _growth(tally: Tally) -> list[str]:
    """Compare the last third with the second, when caches have filled; a killed engine starts small."""
    third = len(tally.memory) // 3
    if third == 0:
        return []
    middle, last = max(tally.memory[third : 2 * third]), max(tally.memory[-third:])
    return [f"memory grew from {middle:.0f} to {last:.0f} MiB"] if last > middle * _GROWTH else []


def _gauges(target: Target) -> list[str]:
    host, port = target.address
    request = urllib.request.Request(
        f"http://{host}:{port}/metrics", headers={"Authorization": f"Bearer {target.api_key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            lines = response.read().decode().splitlines()
    except OSError as error:
        return [f"{target.name} has no /metrics: {error}"]
    return [
        f"still there in the end: {line}"
        for line in lines
        if line.startswith(_IDLE_GAUGES) and float(line.rsplit(" ", 1)[1]) != 0
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m bench.soak --servers servers.yaml --minutes 20",
    )
    parser.add_argument("--servers", type=Path, required=True, help="the first of them is used")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument(
        "--kill-every", type=float, default=4.0, metavar="MINUTES", help="0 never kills the engine"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
