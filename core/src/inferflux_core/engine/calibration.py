"""What passes cost on this machine, measured on the runner that will serve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.runner import ModelRunner, StateExporter, Work

__all__ = ["CopyingRunner", "measure_cost", "some_tokens", "time_passes"]

_DECODE_SECONDS: Final = 1.2
_PREFILL_SECONDS: Final = 1.2
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BETWEEN: Final = (3, 5, 6, 7)
"""There, kernels that compute rows in fours show."""
_FEWEST_POINTS: Final = 4
_CHUNKS: Final = (64, 128, 256, 512)
_REPEATS: Final = 3
_TOKEN: Final = 5


class CopyingRunner(ModelRunner, StateExporter, Protocol):
    """A runner whose passes can be timed without a prompt for every sequence."""

    def copy(self, slot: int, to: int) -> None:
        """Fill an empty slot with a copy of a sequence."""


def measure_cost(runner: CopyingRunner) -> CostModel:
    """Time passes, the smallest first, while there is time; cost models extrapolate.

    All slots of the runner must be empty, and are again afterwards.
    """
    chunks = [n for n in _CHUNKS if n <= runner.capabilities.max_model_len // 2] or [1]
    context = chunks[0]
    # The first time also pays for memory never touched before.
    time_passes(runner, [Work(0, 0, some_tokens(context))])
    prefill: list[tuple[int, float]] = []
    started = time.perf_counter()
    for tokens in chunks:
        if prefill and time.perf_counter() - started + 2 * prefill[-1][1] > _PREFILL_SECONDS:
            break
        runner.release(0)
        prefill.append((tokens, time_passes(runner, [Work(0, 0, some_tokens(tokens))])))
    runner.release(0)
    time_passes(runner, [Work(0, 0, some_tokens(context))])
    copy_seconds = _time_copy(runner, context)
    decode = _time_rows(runner, context)
    return CostModel(
        decode=tuple(decode),
        prefill=tuple(prefill),
        copy_seconds_per_token=copy_seconds / context,
    )


def some_tokens(count: int) -> list[int]:
    """Tokens that are not all the same."""
    return [(17 * i) % 97 + 3 for i in range(count)]


def time_passes(runner: ModelRunner, works: Sequence[Work]) -> float:
    """Seconds that a batch takes."""
    started = time.perf_counter()
    for _ in runner.execute(works):
        pass
    return time.perf_counter() - started


def _time_copy(runner: CopyingRunner, length: int) -> float:
    """Seconds to export slot 0, or to import it; best of a few."""
    if not runner.capabilities.exports_state:
        return 0.0
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        pieces = runner.export_state(0, (0, length))
        runner.release(0)
        runner.import_state(0, pieces, (0, length))
        seconds.append((time.perf_counter() - started) / 2)
    return min(seconds)


def _time_rows(runner: CopyingRunner, context: int) -> list[tuple[int, float]]:
    """Decode passes of more and more copies of the sequence in slot 0; empties all slots."""
    points: list[tuple[int, float]] = []
    most = runner.capabilities.max_num_seqs
    lengths = [context]
    started = time.perf_counter()
    doubling = [*(n for n in _ROWS if n < most), most]
    for rows in doubling + [n for n in _BETWEEN if n < most]:
        late = time.perf_counter() - started > _DECODE_SECONDS
        if late and len(points) >= _FEWEST_POINTS:
            break
        while len(lengths) < rows:
            runner.copy(0, len(lengths))
            lengths.append(lengths[0])
        seconds = []
        for _ in range(_REPEATS):
            works = [Work(slot, lengths[slot], [_TOKEN]) for slot in range(rows)]
            seconds.append(time_passes(runner, works))
            lengths[:rows] = [length + 1 for length in lengths[:rows]]
        points.append((rows, min(seconds)))
    for slot in range(len(lengths)):
        runner.release(slot)
    return sorted(points)
