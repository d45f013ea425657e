"""Choosing how to run a model by trying it on this machine.

One thing is varied at a time, from the best found so far. Candidates take turns, so that what else the
machine does hits all alike, and the best of a few times counts, since noise only ever adds. Whatever is to
replace the best so far must be faster by a margin, which says how much one would rather not have it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from inferflux_core.engine.calibration import some_tokens, time_passes
from inferflux_core.engine.runner import Work
from inferflux_runner_llamacpp.measurements import Choice, Decision, Timings
from inferflux_runner_llamacpp.runner import LlamaRunner

__all__ = ["TRIAL_LEN", "TRIAL_SEQS", "Options", "tune"]

logger = logging.getLogger("inferflux.llamacpp")

TRIAL_SEQS: Final = 8
TRIAL_LEN: Final = 256
_BUDGET_SECONDS: Final = 10.0
_CHUNK: Final = 64
_ROUNDS: Final = 2
_STEPS: Final = 3
_TOKEN: Final = 5
_PROMPT: Final = some_tokens(_CHUNK)
_PASSES_PER_TRIAL: Final = 65
"""Roughly what a trial takes, in passes of one token."""

_ORDER: Final = ("weights", "threads", "kv_type", "flash_attention", "unified")
_MARGIN: Final = 1.05
_MARGINS: Final[Mapping[tuple[str, object], float]] = {
    ("kv_type", "q8_0"): 1.10,  # loses a little precision
    ("flash_attention", False): 1.25,  # values are transposed: prefixes cannot be kept
    ("unified", True): 1.25,  # slows down with every sequence, which eight short ones hardly show
}

Options = Mapping[str, Sequence[str | int | bool]]
"""What there is to choose from, by fields of `Choice`, defaults first; what is pinned has one value."""


def tune(options: Options, open_trial: Callable[[Choice], LlamaRunner]) -> Decision:
    """Find the choice that serves requests soonest here.

    Args:
        options: the candidates.
        open_trial: makes a runner of `TRIAL_SEQS` sequences of `TRIAL_LEN` tokens.
    """
    best = msgspec.convert({field: values[0] for field, values in options.items()}, Choice)
    table: dict[str, str] = {}
    left = _BUDGET_SECONDS
    per_trial = _estimate(best, open_trial) if any(len(v) > 1 for v in options.values()) else 0.0
    for field in _ORDER:
        others = _alternatives(best, field, options[field][1:])
        if not others:
            continue
        if per_trial * (1 + len(others)) > left:
            table["rest"] = "not measured, would take too long"
            break
        logger.info("measuring on this machine, once, what is fastest: %s", field)
        candidates = [best, *others]
        timings, seconds = _compare(candidates, open_trial)
        left -= seconds
        per_trial = seconds / len(candidates)
        table |= {str(choice): str(timings[choice]) for choice in candidates}
        best = min(candidates, key=lambda choice: timings[choice].cost * others.get(choice, 1.0))
    return Decision(best, table)


def _alternatives(best: Choice, field: str, values: Sequence[object]) -> dict[Choice, float]:
    """Choices that differ from the best one in one field, with their margins."""
    if field == "flash_attention" and best.kv_type == "q8_0":
        return {}  # llama.cpp reads quantized values with flash attention only
    return {
        msgspec.structs.replace(best, **{field: value}): _MARGINS.get((field, value), _MARGIN)
        for value in values
    }


def _estimate(choice: Choice, open_trial: Callable[[Choice], LlamaRunner]) -> float:
    """Seconds that a trial will take, about."""
    runner = open_trial(choice)
    try:
        # The first time reads the weights from disk.
        return min(time_passes(runner, [Work(0, n, [_TOKEN])]) for n in (0, 1)) * _PASSES_PER_TRIAL
    finally:
        runner.close()


def _compare(
    candidates: Sequence[Choice], open_trial: Callable[[Choice], LlamaRunner]
) -> tuple[dict[Choice, Timings], float]:
    """Time candidates in turns; also returns the seconds it took."""
    runners: list[LlamaRunner] = []
    try:
        runners.extend(map(open_trial, candidates))
        started = time.perf_counter()
        prompts = _in_turns(
            runners, 0, lambda r, p: [time_passes(r, [Work(0, p, _PROMPT)])], _CHUNK
        )
        for runner in runners:
            for slot in range(1, TRIAL_SEQS):
                runner.copy(0, slot)
        position = _ROUNDS * _CHUNK
        manies = _in_turns(runners, position, lambda r, p: _steps(r, TRIAL_SEQS, p), _STEPS)
        position += _ROUNDS * _STEPS
        ones = _in_turns(runners, position, lambda r, p: _steps(r, 1, p), _STEPS)
        seconds = time.perf_counter() - started
    finally:
        for runner in runners:
            runner.close()
    timings = (
        Timings(prompt / _CHUNK, one, many, TRIAL_SEQS)
        for prompt, one, many in zip(prompts, ones, manies, strict=True)
    )
    return dict(zip(candidates, timings, strict=True)), seconds


def _in_turns(
    runners: Sequence[LlamaRunner],
    position: int,
    measure: Callable[[LlamaRunner, int], list[float]],
    advance: int,
) -> list[float]:
    """The best time of each runner, over rounds that advance its sequences by as many tokens."""
    best = [math.inf] * len(runners)
    for turn in range(_ROUNDS):
        for index, runner in enumerate(runners):
            best[index] = min(best[index], *measure(runner, position + turn * advance))
    return best


def _steps(runner: LlamaRunner, seqs: int, position: int) -> list[float]:
    """Times of a few decode passes, without the first one, for which threads must wake up."""
    return [
        time_passes(runner, [Work(slot, position + step, [_TOKEN]) for slot in range(seqs)])
        for step in range(_STEPS)
    ][1:]
