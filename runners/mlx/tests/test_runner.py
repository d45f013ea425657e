"""How batches become passes, and what sequences cannot do to each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from support.mlx_folders import ATTENTION, mlx_folder

import inferflux_runner_mlx
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.calibration import measure_cost
from inferflux_core.engine.runner import RunnerCapabilities, RunnerError, Work
from inferflux_core.errors import StartupError
from inferflux_core.testing.driving import Driver
from inferflux_runner_mlx.loading import _agrees
from inferflux_runner_mlx.runner import MlxRunner

VOCAB = 11


class NotedPasses:
    """Sequences that compute nothing and note what they were asked for."""

    def __init__(self, number: float = 0.0) -> None:
        self.passes: list[list[Work]] = []
        self._number = number

    def compute(self, works: Sequence[Work]) -> mx.array | None:
        self.passes.append(list(works))
        rows = sum(work.num_logits for work in works)
        return mx.full((rows, VOCAB), self._number) if rows else None

    def release(self, slot: int) -> None:
        pass


class Letters:
    """As much of a tokenizer as warming up takes."""

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return [3]


def noting(sequences: NotedPasses, drafts: int = 2) -> MlxRunner:
    capabilities = RunnerCapabilities(
        vocab_size=VOCAB, max_num_seqs=8, max_model_len=2048, max_draft_tokens=drafts
    )
    return MlxRunner(sequences, capabilities, Letters())  # type: ignore[arg-type]


def shape(works: Sequence[Work]) -> list[tuple[int, int, int, int]]:
    return [(w.slot, w.position, len(w.token_ids), w.num_logits) for w in works]


def test_next_tokens_come_first_then_drafts_then_prompts() -> None:
    sequences = NotedPasses()
    batch = [
        Work(5, 0, range(100), 1),
        Work(2, 9, [1]),
        Work(4, 7, [1, 2, 3], 3),
        Work(0, 8, [1]),
        Work(6, 64, range(64), 0),
        Work(7, 0, range(40), 1),
    ]
    outputs = list(noting(sequences).execute(batch))
    assert [shape(works) for works in sequences.passes] == [
        [(0, 8, 1, 1), (2, 9, 1, 1)],
        [(4, 7, 3, 3)],
        # Bodies of prompts need no logits, so the head is not run over them.
        [(5, 0, 99, 0)],
        [(6, 64, 64, 0)],
        [(7, 0, 39, 0)],
        # The last tokens of all prompts that end here.
        [(5, 99, 1, 1), (7, 39, 1, 1)],
    ]
    assert [list(output.indices) for output in outputs] == [[3, 1], [2, 2, 2], [0, 5]]


def test_many_rows_of_logits_come_in_pieces_in_their_order() -> None:
    sequences = NotedPasses()
    outputs = list(noting(sequences).execute([Work(1, 10, range(600), 590)]))
    assert [shape(works) for works in sequences.passes] == [
        [(1, 10, 10, 0)],
        [(1, 20, 78, 78)],
        [(1, 98, 256, 256)],
        [(1, 354, 256, 256)],
    ]
    tokens = [token for works in sequences.passes for work in works for token in work.token_ids]
    assert tokens == list(range(600))
    assert [len(output.indices) for output in outputs] == [78, 256, 256]


def test_passes_are_bounded() -> None:
    sequences = NotedPasses()
    batch = [Work(slot, 0, [1, 2], 2) for slot in range(300)]
    list(noting(sequences).execute(batch))
    assert [len(works) for works in sequences.passes] == [128, 128, 44]


def test_idle_slots_between_count_too() -> None:
    sequences = NotedPasses()
    batch = [Work(slot, 0, [1, 2, 3], 3) for slot in (90, 0, 84, 85)]
    list(noting(sequences).execute(batch))
    assert [[work.slot for work in works] for works in sequences.passes] == [[0, 84], [85, 90]]


def test_adapters_are_not_ignored() -> None:
    with pytest.raises(RunnerError, match="adapters"):
        list(noting(NotedPasses()).execute([Work(0, 0, [1], adapters=((1, 1.0),))]))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.0])
def test_nonsense_ends_the_start(number: float) -> None:
    with pytest.raises(StartupError, match="meaningless"):
        noting(NotedPasses(number)).warm_up()


def test_failures_of_the_library_are_the_runners() -> None:
    class Failing(NotedPasses):
        def compute(self, works: Sequence[Work]) -> mx.array | None:
            raise RuntimeError("[METAL] out of memory")

    with pytest.raises(RunnerError, match=r"MLX failed: \[METAL\] out of memory"):
        list(noting(Failing()).execute([Work(0, 0, [1])]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mlx_folder(tmp_path_factory.mktemp("model"), ATTENTION)


def load(folder: Path, slots: int = 4, length: int = 64) -> MlxRunner:
    runtime = RuntimeConfig(max_num_seqs=slots, max_model_len=length)
    return inferflux_runner_mlx.load(ModelConfig(path=str(folder)), runtime, on_cpu=True)


def test_a_sequence_that_went_wrong_leaves_nothing_behind(folder: Path) -> None:
    """NaN in a cache reaches whoever is computed beside it: masked, it is zero times NaN."""
    runner = load(folder)
    driver = Driver(runner)
    tokens = list(range(100, 130))
    alone = driver.append(0, tokens)
    (state,) = runner.export_state(0, (0, len(tokens)))
    driver.release(0)
    poison = np.full(len(state) // 4, np.nan, np.float32).tobytes()
    runner.import_state(0, [poison], (0, len(tokens)))
    runner.release(0)
    driver.append(2, tokens[:-1])
    rows = driver.compute({0: [7], 2: tokens[-1:]})
    assert np.isfinite(rows[0]).all()
    np.testing.assert_allclose(rows[2], alone, rtol=1e-5, atol=1e-5)


def test_tokens_that_were_taken_back_are_cleared_too(folder: Path) -> None:
    runner = load(folder)
    driver = Driver(runner)
    driver.append(0, list(range(60)))
    driver.truncate(0, 10)
    driver.append(0, [5])
    driver.release(0)
    (left,) = runner.export_state(0, (0, 60))
    assert not any(left)


def test_idle_neighbours_keep_what_they_hold(folder: Path) -> None:
    """Slots between those of a pass compute along, whether they are empty, partly or completely filled."""
    runner = load(folder, slots=5, length=16)
    driver = Driver(runner)
    tokens = list(range(200, 216))
    expected = driver.append(1, tokens)
    driver.release(1)
    driver.append(1, tokens[:9])
    driver.append(2, tokens)
    before = [runner.export_state(slot, (0, n)) for slot, n in ((1, 9), (2, 16))]
    driver.compute({0: [4], 4: [8]})
    assert [runner.export_state(slot, (0, n)) for slot, n in ((1, 9), (2, 16))] == before
    np.testing.assert_allclose(driver.append(1, tokens[9:]), expected, rtol=1e-5, atol=1e-5)


def test_a_pass_writes_in_place(tmp_path: Path) -> None:
    """The cache has 64 MiB, in four arrays; a copy of one would be seen."""
    config = ATTENTION | {"max_position_embeddings": 65536}
    runner = load(mlx_folder(tmp_path, config), slots=4, length=32768)
    driver = Driver(runner)
    for slot in (0, 2):
        driver.append(slot, [1, 2, 3])
    cache = 4 * 32768 * runner.capabilities.kv_bytes_per_token
    assert cache == 64 * 2**20
    for tokens in ({0: [4], 2: [5]}, {2: list(range(20))}):
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        driver.compute(tokens)
        assert mx.get_peak_memory() - before < cache // 8


def test_costs_can_be_measured(folder: Path) -> None:
    runner = load(folder, slots=4, length=256)
    cost = measure_cost(runner)
    assert [rows for rows, _ in cost.decode] == [1, 2, 3, 4]
    assert cost.prefill[0][0] == 64
    assert cost.copy_seconds_per_token > 0
    assert not any(runner.export_state(slot, (0, 64))[0].strip(b"\0") for slot in range(4))


class OwnWays:
    """A model that wants more of its caches than keys and values."""

    layers = (None,)

    def __call__(self, tokens: mx.array, cache: Sequence[object]) -> mx.array:
        cache[0].bits  # type: ignore[attr-defined]  # noqa: B018
        raise AssertionError


class Forgetful:
    """A model that computes something else when it runs in slots."""

    layers = (None,)

    def __call__(self, tokens: mx.array, cache: Sequence[object]) -> mx.array:
        return mx.random.uniform(shape=(*tokens.shape, VOCAB)) * len(tokens)


@pytest.mark.parametrize("model", [OwnWays(), Forgetful()])
def test_models_that_differ_in_slots_are_found_out(model: OwnWays | Forgetful) -> None:
    expected = mx.arange(4 * VOCAB).reshape(4, VOCAB).astype(mx.float32)
    assert not _agrees(model, [None], expected)


def test_closing_frees_the_model(folder: Path) -> None:
    mx.clear_cache()
    before = mx.get_active_memory()
    runner = load(folder)
    runner.warm_up()
    assert mx.get_active_memory() > before
    runner.close()
    assert mx.get_active_memory() == before
