"""Choosing between original and expanded weights by trying both on this machine, once."""

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

__all__ = ["TRIAL_LEN", "TRIAL_SEQS", "Timings", "choose_weights"]

logger = logging.getLogger("inferflux.llamacpp")

TRIAL_SEQS: Final = 8
TRIAL_LEN: Final = 256
_PROMPT: Final = 64
_ANSWER: Final = 64
_MARGIN: Final = 0.95
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


class _Choice(msgspec.Struct, frozen=True):
    weights: str
    original: Timings
    expanded: Timings


def choose_weights(
    path: Path, threads: int, trial: Callable[[bool], LlamaRunner]
) -> tuple[str, str]:
    """`original` or `f16`, whichever serves a request sooner here.

    Args:
        path: the model.
        threads: compute threads.
        trial: opens a small runner, on expanded weights if told so.

    Returns:
        The choice and a line that says why.
    """
    file = _result_file(path, threads)
    try:
        choice = msgspec.json.decode(file.read_bytes(), type=_Choice)
    except (OSError, msgspec.DecodeError):
        choice = _measure(trial)
        _store(file, choice)
    gain = choice.original.cost / choice.expanded.cost
    return choice.weights, f"f16 weights are {gain:.2f}x as fast as the original here"


def _measure(trial: Callable[[bool], LlamaRunner]) -> _Choice:
    logger.info("measuring original and expanded weights on this machine, once")
    results = []
    for expanded in (False, True):
        runner = trial(expanded)
        try:
            results.append(_time(runner))
        finally:
            runner.close()
    better = results[1].cost < results[0].cost * _MARGIN
    return _Choice("f16" if better else "original", *results)


def _time(runner: LlamaRunner) -> Timings:
    """Best of a few runs each: noise only ever adds."""
    tokens = [(17 * i) % 997 + 3 for i in range(_PROMPT)]
    prompt = min(_run(runner, [Work(0, 0, tokens, wants_logits=True)]) for _ in range(3))
    one = min(_decode(runner, 1) for _ in range(2))
    many = min(_decode(runner, TRIAL_SEQS) for _ in range(2))
    return Timings(prompt / _PROMPT, one, many)


def _decode(runner: LlamaRunner, seqs: int) -> float:
    steps = []
    for position in range(5):
        works = [Work(slot, position, [5], wants_logits=True) for slot in range(seqs)]
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


def _store(file: Path, choice: _Choice) -> None:
    """Keep a result; a cache that cannot be written only costs the measurement again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as part:
            part.write(msgspec.json.encode(choice))
        Path(name).replace(file)
    except OSError as error:
        logger.warning("cannot keep the measurement in %s: %s", file.parent, error.strerror)
