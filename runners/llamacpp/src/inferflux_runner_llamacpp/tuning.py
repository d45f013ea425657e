"""Choosing between original and expanded weights by trying them on this machine, once."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import llama_cpp
import msgspec

from inferflux_core.engine.runner import Work
from inferflux_runner_llamacpp.host import cache_folder, cpu_identity
from inferflux_runner_llamacpp.runner import LlamaRunner
from inferflux_runner_llamacpp.weights import file_identity

__all__ = ["CANDIDATES", "TRIAL_LEN", "TRIAL_SEQS", "Timings", "choose_weights"]

logger = logging.getLogger("inferflux.llamacpp")

TRIAL_SEQS: Final = 8
TRIAL_LEN: Final = 256
_PROMPT: Final = 64
_ANSWER: Final = 64
_HANDICAP: Final = 1.05
"""Expanded weights take more memory: they must earn it."""


class Timings(msgspec.Struct, frozen=True):
    """Seconds per prompt token, and per decode step of one and of `TRIAL_SEQS` sequences."""

    prompt_token: float
    one: float
    many: float

    @property
    def cost(self) -> float:
        """Geometric mean, over a lone and over several clients, of the time that a request takes."""
        prompt = self.prompt_token * _PROMPT
        alone = prompt + self.one * _ANSWER
        together = prompt + self.many * _ANSWER / TRIAL_SEQS
        return math.sqrt(alone * together)


CANDIDATES: Final = ("original", "q8_0", "f16")


def choose_weights(
    path: Path, threads: int, trial: Callable[[str], LlamaRunner]
) -> tuple[str, str]:
    """The weights that serve a request soonest here.

    Args:
        path: the model.
        threads: compute threads.
        trial: opens a small runner on one of `CANDIDATES`.

    Returns:
        The choice and a line that says why.
    """
    file = _result_file(path, threads)
    try:
        results = msgspec.json.decode(file.read_bytes(), type=dict[str, Timings])
    except (OSError, msgspec.DecodeError):
        results = _measure(trial)
        _store(file, results)
    costs = {
        name: timings.cost * (1 if name == "original" else _HANDICAP)
        for name, timings in results.items()
    }
    best = min(costs, key=costs.__getitem__)
    gain = results["original"].cost / results[best].cost
    return best, f"measured: {best} weights, {gain:.2f}x as fast as the original"


def _measure(trial: Callable[[str], LlamaRunner]) -> dict[str, Timings]:
    logger.info("measuring on this machine, once, which weights are fastest")
    results = {}
    for name in CANDIDATES:
        runner = trial(name)
        try:
            results[name] = _time(runner)
        finally:
            runner.close()
    return results


def _time(runner: LlamaRunner) -> Timings:
    """Best of a few runs each: noise only ever adds."""
    tokens = [(17 * i) % 997 + 3 for i in range(_PROMPT)]
    prompt = min(_run(runner, [Work(0, 0, tokens)]) for _ in range(3))
    one = min(_decode(runner, 1) for _ in range(2))
    many = min(_decode(runner, TRIAL_SEQS) for _ in range(2))
    return Timings(prompt / _PROMPT, one, many)


def _decode(runner: LlamaRunner, seqs: int) -> float:
    steps = []
    for position in range(5):
        works = [Work(slot, position, [5]) for slot in range(seqs)]
        steps.append(_run(runner, works, keep=True))
    for slot in range(seqs):
        runner.release(slot)
    return min(steps[1:])


def _run(runner: LlamaRunner, works: list[Work], *, keep: bool = False) -> float:
    started = time.perf_counter()
    for _ in runner.execute(works):
        pass
    seconds = time.perf_counter() - started
    if not keep:
        for work in works:
            runner.release(work.slot)
    return seconds


def _result_file(path: Path, threads: int) -> Path:
    """Results hold for one file, one build of the library and one kind of machine."""
    library = Path(llama_cpp.llama_cpp._lib._name)
    key = "|".join((file_identity(path), file_identity(library), cpu_identity(), str(threads)))
    return cache_folder() / "tuning" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _store(file: Path, results: dict[str, Timings]) -> None:
    """Keep a result; a cache that cannot be written only costs the measurement again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as part:
            part.write(msgspec.json.encode(results))
        Path(name).replace(file)
    except OSError as error:
        logger.warning("cannot keep the measurement in %s: %s", file.parent, error.strerror)
