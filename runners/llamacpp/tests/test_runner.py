"""The runner on the real model, without an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.runner import AdapterSet, RunnerError, Work
from inferflux_core.testing.driving import Driver, assert_same_choice
from inferflux_runner_llamacpp.passes import PassPlanner
from inferflux_runner_llamacpp.runner import LlamaRunner

BLOCK = 64
TOKENS = [(37 * i) % 9000 + 10 for i in range(150)]


NEAR_TIE = 0.5
PASSES_COST_MORE_THAN_ROWS = CostModel(
    decode=((1, 1.0), (8, 1.07)), prefill=((64, 2.0), (512, 9.0))
)
ROWS_ARE_EVERYTHING = CostModel(decode=((1, 1.0), (8, 8.0)), prefill=((64, 64.0), (512, 512.0)))


@pytest.fixture
def runner(streams: LlamaRunner) -> Iterator[LlamaRunner]:
    yield streams
    for slot in range(8):
        streams.release(slot)


def compute(
    runner: LlamaRunner, slot: int, tokens: list[int], start: int = 0
) -> NDArray[np.float32]:
    (output,) = runner.execute([Work(slot, start, tokens)])
    assert not output.failed
    return output.logits[0].copy()


def test_state_can_be_cut_into_blocks(runner: LlamaRunner) -> None:
    assert runner.capabilities.exports_state


def test_restored_blocks_are_as_good_as_computed_ones(runner: LlamaRunner) -> None:
    compute(runner, 5, TOKENS[:128])
    expected = compute(runner, 5, TOKENS[128:], start=128)
    blocks = runner.export_state(5, (0, BLOCK, 2 * BLOCK))

    runner.import_state(2, blocks, (0, BLOCK, 2 * BLOCK))
    restored = compute(runner, 2, TOKENS[128:], start=128)

    assert np.array_equal(restored, expected)


def test_blocks_of_different_sequences_can_be_joined(runner: LlamaRunner) -> None:
    compute(runner, 0, TOKENS)
    compute(runner, 3, TOKENS[:64])
    first = runner.export_state(3, (0, BLOCK))
    second = runner.export_state(0, (BLOCK, 2 * BLOCK))

    runner.import_state(1, first + second, (0, BLOCK, 2 * BLOCK))

    assert runner.export_state(1, (BLOCK, 2 * BLOCK)) == second
    assert compute(runner, 1, TOKENS[128:], start=128).argmax() == (
        compute(runner, 4, TOKENS).argmax()
    )


def test_content_depends_on_what_came_before(runner: LlamaRunner) -> None:
    compute(runner, 0, TOKENS[:128])
    compute(runner, 1, TOKENS[64:128] + TOKENS[64:128])
    assert runner.export_state(0, (BLOCK, 2 * BLOCK)) != runner.export_state(1, (BLOCK, 2 * BLOCK))


def test_a_released_slot_is_empty(runner: LlamaRunner) -> None:
    before = compute(runner, 0, TOKENS[:40])
    compute(runner, 0, TOKENS[40:80], start=40)
    runner.release(0)
    assert np.array_equal(compute(runner, 0, TOKENS[:40]), before)


@pytest.mark.parametrize("slots", [[0, 2], [1, 4, 7], [7], [0, 1, 2, 3]])
@pytest.mark.parametrize("cost", [ROWS_ARE_EVERYTHING, PASSES_COST_MORE_THAN_ROWS])
def test_holes_between_slots_change_nothing(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch, slots: list[int], cost: CostModel
) -> None:
    """Whether idle slots are computed along or left out, answers and their caches stay the same."""
    monkeypatch.setattr(runner, "_planner", PassPlanner(512, 64, cost))
    expected = []
    for slot in slots:
        compute(runner, slot, TOKENS[slot : slot + 20])
        expected.append(compute(runner, slot, [5 + slot], start=20).argmax())
        runner.release(slot)
    idle = next(slot for slot in range(8) if slot not in slots)
    compute(runner, idle, TOKENS[:30])
    for slot in slots:
        compute(runner, slot, TOKENS[slot : slot + 20])

    (output,) = runner.execute([Work(s, 20, [5 + s]) for s in slots])

    assert list(output.indices) == list(range(len(slots)))
    assert output.logits.argmax(axis=1).tolist() == expected
    assert np.isfinite(compute(runner, idle, [7], start=30)).all()


def test_rows_come_back_in_the_order_of_the_batch(runner: LlamaRunner) -> None:
    for slot in (3, 0, 1):
        compute(runner, slot, TOKENS[slot : slot + 20])
    works = [Work(slot, 20, [9]) for slot in (3, 0, 1)]

    (output,) = runner.execute(works)

    got = {works[i].slot: output.logits[row].argmax() for row, i in enumerate(output.indices)}
    for slot in (3, 0, 1):
        runner.release(slot)
        compute(runner, slot, TOKENS[slot : slot + 20])
        assert compute(runner, slot, [9], start=20).argmax() == got[slot]


def test_a_prompt_longer_than_a_pass_is_computed_in_several(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compute(runner, 0, TOKENS)
    monkeypatch.setattr(runner, "_planner", PassPlanner(64, 64))
    assert_same_choice(compute(runner, 1, TOKENS), whole, NEAR_TIE)


def test_what_the_context_offers_is_measured(runner: LlamaRunner) -> None:
    capabilities = runner.capabilities
    assert capabilities.max_draft_tokens == 8
    assert capabilities.contiguous_slots
    assert capabilities.cost is not None
    rows = [rows for rows, _ in capabilities.cost.decode]
    assert rows == sorted(rows)
    assert {1, 2, 4, 8} <= set(rows)
    assert all(seconds > 0 for _, seconds in capabilities.cost.decode + capabilities.cost.prefill)
    assert capabilities.cost.copy_seconds_per_token > 0
    assert {
        "kv_cache_type",
        "flash_attention",
        "kv_layout",
        "threads",
        "binding",
        "weights",
    } <= set(capabilities.details)


def test_logits_of_a_long_prompt_come_in_several_passes(driver: Driver) -> None:
    tokens = TOKENS[:100]
    rows = driver.compute_rows({0: tokens}, {0: 90})
    driver.release(0)
    for length in (11, 64, 75, 100):
        row = driver.append(0, tokens[:length])
        assert_same_choice(rows[0][length - 11], row, NEAR_TIE)
        driver.release(0)


def test_drafts_of_several_sequences_share_a_pass_in_any_layout(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = (0, 1, 3)
    alone = {}
    for slot in slots:
        alone[slot] = driver.rows(slot, TOKENS[slot : slot + 20], TOKENS[:3])[1:]
        driver.release(slot)
    planner = PassPlanner(512, 64, PASSES_COST_MORE_THAN_ROWS)
    monkeypatch.setattr(driver.runner, "_planner", planner)
    driver.compute({slot: TOKENS[slot : slot + 20] for slot in slots}, quiet=slots)
    works = [Work(slot, 20, TOKENS[:3], 3) for slot in slots]

    (output,) = driver.runner.execute(works)

    assert list(output.indices) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for index, slot in enumerate(slots):
        for step in range(3):
            row = output.logits[3 * index + step]
            assert_same_choice(row, alone[slot][step], NEAR_TIE)


def test_a_shared_cache_exports_cells_in_order(unified: LlamaRunner) -> None:
    """Sequences that grow side by side, with one that leaves between them, take whatever cells are free."""
    driver = Driver(unified)
    for start in range(0, 30, 10):
        driver.compute(
            {slot: TOKENS[start : start + 10 + slot] for slot in (0, 1, 2)}, quiet=(0, 1, 2)
        )
    driver.release(0)
    driver.release(2)
    grown = TOKENS[:11] + TOKENS[10:21] + TOKENS[20:31] + TOKENS[:120]
    driver.append(1, grown[33:])
    pieces = unified.export_state(1, (0, 50, 140))
    driver.release(1)
    driver.append(5, grown)
    in_order = unified.export_state(5, (0, 50, 140))
    driver.release_all()
    for piece, expected in zip(pieces, in_order, strict=True):
        found, wanted = (
            np.frombuffer(data, np.float16).astype(float) for data in (piece, expected)
        )
        assert np.corrcoef(found, wanted)[0, 1] > 0.99


class Recorder:
    """Stands in for adapters: what was applied, before which pass."""

    def __init__(self) -> None:
        self.applied: list[AdapterSet] = []

    def apply(self, adapters: AdapterSet) -> None:
        self.applied.append(adapters)


def test_works_are_grouped_by_adapters_beginning_with_those_in_place(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(runner, "_adapters", recorder)
    monkeypatch.setattr(runner, "_applied", ())
    first, second = ((1, 1.0),), ((1, 0.5), (2, 1.0))

    def step(adapters: Sequence[AdapterSet], position: int) -> list[list[int]]:
        works = [Work(slot, position, [5], adapters=used) for slot, used in enumerate(adapters)]
        return [list(output.indices) for output in runner.execute(works)]

    assert step([first, second, first, ()], 0) == [[3], [0, 2], [1]]
    assert step([first, second, first, ()], 1) == [[1], [0, 2], [3]]
    assert recorder.applied == [(), first, second, second, first, ()]


def test_adapters_nobody_can_apply_are_not_ignored(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_adapters", None)
    with pytest.raises(RunnerError, match="adapters"):
        list(runner.execute([Work(0, 0, [5], adapters=((1, 1.0),))]))


def test_python_takes_little_of_a_step(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a decoder that does nothing: what is left is ours."""
    works = [Work(slot, 0, [5]) for slot in range(8)]
    list(runner.execute(works))
    monkeypatch.setattr(llama_cpp, "llama_decode", lambda context, batch: 0)
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        list(runner.execute(works))
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.3e-3
