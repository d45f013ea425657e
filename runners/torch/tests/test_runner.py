"""The runner without an engine, on a random model with windows of four tokens in one of its two layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.hf_folders import tiny_folder
from support.torch_runners import CPU, exact_runner
from torch import Tensor

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import RunnerError, Work
from inferflux_core.errors import StartupError
from inferflux_core.testing.driving import Driver
from inferflux_runner_torch import load
from inferflux_runner_torch.ops import KVLayer, Rows, TorchOps
from inferflux_runner_torch.runner import TorchRunner

TOKENS = [(37 * i) % 1900 + 5 for i in range(150)]
CLOSE = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(
        tmp_path_factory.mktemp("gemma"), "Gemma3ForCausalLM", dtype="BF16", head_dim=16
    )


@pytest.fixture
def driver(folder: Path) -> Iterator[Driver]:
    runner, cache = exact_runner(folder, block_size=16, max_rows=64)
    yield Driver(runner)
    cache.check_integrity()


def test_a_prompt_longer_than_a_pass_is_computed_in_several(driver: Driver, folder: Path) -> None:
    whole, _ = exact_runner(folder, block_size=16, max_rows=512)
    expected = Driver(whole).append(0, TOKENS)
    assert np.abs(driver.append(3, TOKENS) - expected).max() < CLOSE


def test_many_rows_of_logits_come_in_pieces_in_their_order(driver: Driver) -> None:
    rows = driver.compute_rows({1: TOKENS, 0: TOKENS[:9]}, {1: 140, 0: 0})
    for end in (11, 90, 150):
        assert np.abs(rows[1][end - 11] - driver.append(2, TOKENS[:end])).max() < CLOSE
        driver.release(2)


def test_a_mixed_batch_computes_what_each_would_alone(driver: Driver) -> None:
    """A prompt, a next token, drafts and a chunk without logits in one pass."""
    held = {0: TOKENS[:33], 1: TOKENS[40:57], 2: TOKENS[60:63], 3: []}
    more = {0: TOKENS[33:34], 1: TOKENS[57:60], 2: TOKENS[63:90], 3: TOKENS[100:117]}
    logits = {0: 1, 1: 3, 2: 0, 3: 1}
    alone = {}
    for slot in (0, 1, 3):
        tokens, count = [*held[slot], *more[slot]], logits[slot]
        alone[slot] = driver.rows(3, tokens[:-count], tokens[-count:])[1:]
        driver.release(3)
    driver.compute({slot: tokens for slot, tokens in held.items() if tokens})
    (output,) = driver.runner.execute(
        [Work(slot, len(held[slot]), more[slot], logits[slot]) for slot in (2, 0, 3, 1)]
    )
    assert list(output.indices) == [1, 2, 3, 3, 3]
    assert output.logits.dtype == np.float32
    expected = np.stack(alone[0] + alone[3] + alone[1])
    assert np.abs(output.logits - expected).max() < CLOSE
    # What gave no logits has been computed nevertheless.
    row = driver.resume(2, 30, TOKENS[90:92])
    driver.runner.release(3)
    assert np.abs(row - driver.append(3, TOKENS[60:92])).max() < CLOSE


@pytest.mark.parametrize("length", [15, 16, 17, 33])
def test_state_is_the_same_wherever_it_is(driver: Driver, length: int) -> None:
    runner = driver.runner
    assert isinstance(runner, TorchRunner)
    driver.append(0, TOKENS[:100])
    (state,) = runner.export_state(0, (0, length))
    assert len(state) == 2 * 2 * length * 2 * 16 * 4  # layers, keys and values, ..., float32
    pieces = runner.export_state(0, (0, 3, length))
    runner.import_state(2, pieces, (0, 3, length))
    assert runner.export_state(2, (0, length)) == [state]
    expected = driver.append(1, TOKENS[:120])
    assert np.abs(driver.resume(2, length, TOKENS[length:120]) - expected).max() < CLOSE


def test_a_piece_of_another_size_is_refused(driver: Driver) -> None:
    runner = driver.runner
    assert isinstance(runner, TorchRunner)
    driver.append(0, TOKENS[:20])
    (piece,) = runner.export_state(0, (0, 20))
    with pytest.raises(RunnerError, match="wrong size"):
        runner.import_state(1, [piece[:-1]], (0, 20))
    runner.release(1)


def test_a_sequence_that_went_wrong_spoils_no_other(driver: Driver) -> None:
    """NaN in the first block of all, and in blocks that are used anew."""
    runner = driver.runner
    assert isinstance(runner, TorchRunner)
    tokens = TOKENS[:40]
    expected = driver.append(0, tokens)
    driver.release(0)
    nan = np.full(2 * 2 * 40 * 2 * 16, np.nan, np.float32).tobytes()
    runner.import_state(0, [nan], (0, 40))
    driver.append(1, tokens[:-1])
    driver.append(2, tokens[:3])
    (output,) = runner.execute([Work(0, 40, [7]), Work(1, 39, tokens[-1:]), Work(2, 3, [8])])
    assert not np.isfinite(output.logits[0]).any()
    assert np.abs(output.logits[1] - expected).max() < CLOSE
    assert np.isfinite(output.logits[2]).all()
    runner.release(0)
    assert np.abs(driver.append(0, tokens) - expected).max() < CLOSE


def test_blocks_are_shared_until_one_goes_on(driver: Driver) -> None:
    runner = driver.runner
    assert isinstance(runner, TorchRunner)
    expected = driver.append(3, [*TOKENS[:40], 9])
    driver.release(3)
    driver.append(0, TOKENS[:50])
    assert not runner.share(0, 1, 51)
    assert runner.share(0, 1, 40)
    before = runner.export_state(0, (0, 50))
    assert np.abs(driver.resume(1, 40, [9]) - expected).max() < CLOSE
    assert runner.export_state(0, (0, 50)) == before


class Failing(TorchOps):
    """Operations that fail when they are told to, or compute nonsense."""

    factor: float | None = 1.0

    def attention(
        self, queries: Tensor, layer: KVLayer, rows: Rows, scale: float, window: int | None
    ) -> Tensor:
        if self.factor is None:
            raise RuntimeError("out of memory: tried to allocate 2 GiB")
        return super().attention(queries, layer, rows, scale, window) * self.factor


@pytest.fixture
def failing(folder: Path) -> tuple[TorchRunner, Failing]:
    ops = Failing(CPU, torch.float32, torch.float32)
    runner, _ = exact_runner(folder, ops=ops)
    return runner, ops


def test_failures_of_torch_are_the_runners(failing: tuple[TorchRunner, Failing]) -> None:
    runner, ops = failing
    ops.factor = None
    with pytest.raises(RunnerError, match="torch failed: out of memory"):
        list(runner.execute([Work(0, 0, [1, 2])]))


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_nonsense_ends_the_start(failing: tuple[TorchRunner, Failing], factor: float) -> None:
    runner, ops = failing
    runner.warm_up()
    ops.factor = factor
    with pytest.raises(StartupError, match="meaningless"):
        runner.warm_up()


def test_costs_are_measured_when_it_warms_up(folder: Path) -> None:
    runtime = RuntimeConfig(max_num_seqs=4, max_model_len=128, threads=1)
    runner = load(ModelConfig(path=str(folder)), runtime)
    assert runner.capabilities.cost is None
    runner.warm_up()
    cost = runner.capabilities.cost
    assert cost is not None
    assert [rows for rows, _ in cost.decode] == [1, 2, 3, 4]
    assert cost.prefill[0][0] == 64
    assert cost.copy_seconds_per_token > 0
    # Nothing is left in the slots.
    assert not runner.share(0, 1, 1)
    runner.close()
    runner.close()
    with pytest.raises(AssertionError, match="closed"):
        runner.release(0)
