"""Stage a situation on several servers in turn: `python -m bench.regimes SITUATION --servers FILE`."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench import BenchError
from bench.compare import progress
from bench.load import Workload, calibrate
from bench.prompts import Calibration
from bench.regimes.arrival import ARRIVAL
from bench.regimes.burst import BURST
from bench.regimes.conversations import CONVERSATIONS
from bench.regimes.dialects import DIALECTS
from bench.regimes.overhead import OVERHEAD
from bench.regimes.repetition import REPETITION
from bench.regimes.restart import RESTART
from bench.regimes.situation import Numbers, Situation, Surroundings
from bench.regimes.steady import STEADY
from bench.servers import RunningServer, ServerSpec, load_specs, running

__all__ = ["main"]

SITUATIONS: Final = {
    s.name: s
    for s in (ARRIVAL, BURST, CONVERSATIONS, DIALECTS, OVERHEAD, REPETITION, RESTART, STEADY)
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0, or 1 if a server failed."""
    options = _parser().parse_args(arguments)
    try:
        uvloop.run(_run(options))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(options: argparse.Namespace) -> None:
    situation = SITUATIONS[options.situation]
    specs = load_specs(options.servers)
    results: dict[str, list[Numbers]] = {spec.name: [] for spec in specs}
    calibration: Calibration | None = None
    for run in range(options.runs):
        # Whoever goes first moves on, so that a machine that drifts favours nobody.
        for at in range(len(specs)):
            spec = specs[(run + at) % len(specs)]
            progress(f"run {run + 1}/{options.runs}: starting {spec.name}")
            async with AsyncExitStack() as stack:
                server = await stack.enter_async_context(running(spec, Workload()))
                calibration = calibration or await calibrate(spec.target, Workload())
                size = options.size or situation.size
                numbers = await _stage(situation, spec, server, stack, calibration, run, size)
            progress("  " + ", ".join(f"{name} {value:.2f}" for name, value in numbers.items()))
            results[spec.name].append(numbers)
    if options.json:
        print(msgspec.json.encode(results).decode())
    else:
        print(_table(results))


async def _stage(
    situation: Situation,
    spec: ServerSpec,
    server: RunningServer,
    stack: AsyncExitStack,
    calibration: Calibration,
    seed: int,
    size: int,
) -> Numbers:
    async def restart() -> RunningServer:
        await stack.aclose()
        return await stack.enter_async_context(running(spec, Workload()))

    return await situation.stage(Surroundings(server, calibration, seed, size, restart))


def _table(results: dict[str, list[Numbers]]) -> str:
    """Medians of each server, and the first server's ratio to each other one, run by run."""
    (first, ours), *others = results.items()
    rows = []
    for name in ours[0]:
        values = {server: [run[name] for run in runs] for server, runs in results.items()}
        rows.append(f"{name}")
        rows += [f"  {server:<24} {statistics.median(v):>12.2f}" for server, v in values.items()]
        for other, _ in others:
            ratios = [a / b for a, b in zip(values[first], values[other], strict=True)]
            rows.append(
                f"  {first + '/' + other:<24} {statistics.median(ratios):>12.3f} "
                f"[{min(ratios):.3f}-{max(ratios):.3f}]"
            )
    return "\n".join(rows)


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {s.name:<14} {s.summary} (size {s.size})" for s in SITUATIONS.values())
    parser = argparse.ArgumentParser(
        prog="python -m bench.regimes",
        description=__doc__,
        epilog=f"situations:\n{lines}\n\nexample:\n"
        "  python -m bench.regimes burst --servers servers.yaml --runs 3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("situation", choices=sorted(SITUATIONS))
    parser.add_argument("--servers", type=Path, required=True, metavar="FILE", help="see README")
    parser.add_argument("--runs", type=int, default=3, help="medians of so many (default 3)")
    parser.add_argument("--size", type=int, help="how much to stage (default: see below)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
