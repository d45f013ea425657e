"""Users who ask again as soon as they have their answer, with prompts that have nothing in common."""

from __future__ import annotations

from bench import BenchError
from bench.load import Workload, run_level, warm_up
from bench.regimes.situation import Numbers, Situation, Surroundings

__all__ = ["STEADY"]

_LEVELS = (1, 8, 32, 64)


async def _stage(around: Surroundings) -> Numbers:
    """Measure few users and many; `size` is the number of requests of the last level."""
    target, numbers = around.server.spec.target, {}
    base = Workload(prompt_tokens=143, output_tokens=64)
    prompts = base.prompts(around.calibration, around.seed)
    await warm_up(target, base, max(_LEVELS), prompts)
    for users in _LEVELS:
        requests = max(around.size * users // max(_LEVELS), 4)
        workload = Workload(prompt_tokens=143, output_tokens=64, requests=requests)
        level = await run_level(target, workload, users, prompts)
        if level.errors:
            raise BenchError(f"{target.name} failed at {users} users: {level.first_error}")
        numbers[f"{users} users: output tok/s"] = level.tokens_per_second
        numbers[f"{users} users: TTFT p50 ms"] = level.ttft_p50
        numbers[f"{users} users: ITL p99 ms"] = level.itl_p99
    return numbers


STEADY = Situation(
    "steady",
    "143-token prompts without a shared beginning, 64 tokens out, 1, 8, 32 and 64 users",
    96,
    _stage,
)
