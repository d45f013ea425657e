"""Two servers in turn on one machine, as many times as asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.load import Workload, calibrate, run_level, warm_up
from bench.prompts import Calibration
from bench.report import ServerRun
from bench.servers import RunningServer, ServerSpec, running, tree_memory

__all__ = ["compare", "progress"]


def progress(message: str) -> None:
    """Say on standard error what is going on."""
    print(message, file=sys.stderr, flush=True)


async def compare(
    first: ServerSpec, second: ServerSpec, workload: Workload, levels: Sequence[int], runs: int
) -> tuple[list[ServerRun], list[ServerRun]]:
    """Measure two servers `runs` times each.

    Only one runs at a time. Who goes first alternates, so a machine that slows down or speeds up
    favours neither. Both get the same prompts, and every run new ones: a server may keep its cache
    over a restart.

    Raises:
        BenchError: a server did not start or failed while it warmed up.
    """
    results: dict[str, list[ServerRun]] = {first.name: [], second.name: []}
    calibration: Calibration | None = None
    for run in range(runs):
        for spec in (first, second) if run % 2 == 0 else (second, first):
            progress(f"run {run + 1}/{runs}: starting {spec.name}")
            async with running(spec, workload) as server:
                progress(f"  ready after {server.ready_seconds:.2f} s")
                calibration = calibration or await calibrate(spec.target, workload)
                results[spec.name].append(
                    await _measure(server, workload, levels, calibration, run)
                )
    return results[first.name], results[second.name]


async def _measure(
    server: RunningServer,
    workload: Workload,
    levels: Sequence[int],
    calibration: Calibration,
    seed: int,
) -> ServerRun:
    target = server.spec.target
    prompts = workload.prompts(calibration, seed)
    await warm_up(target, workload, max(levels), prompts)
    measured, memory = [], []
    for users in levels:
        level = await run_level(target, workload, users, prompts)
        progress(
            f"  {users:>4} users: {level.tokens_per_second:8.1f} tok/s, "
            f"TTFT {level.ttft_p50:.0f} ms, ITL {level.itl_p50:.2f} ms, {level.errors} errors"
        )
        measured.append(level)
        memory.append(tree_memory(server.pid))
    pss = [sample.pss for sample in memory if sample.pss is not None]
    return ServerRun(
        server=server.spec.name,
        ready_seconds=server.ready_seconds,
        rss_mib=max(sample.peak_rss for sample in memory),
        pss_mib=max(pss) if len(pss) == len(memory) else None,
        levels=measured,
    )
