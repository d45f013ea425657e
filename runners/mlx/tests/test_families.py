"""Every family says the same through our runner as through mlx-lm's own generator."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm.utils
import pytest
from mlx_lm.generate import generate_step
from support.mlx_folders import ATTENTION, MAMBA, mlx_folder

import inferflux_runner_mlx
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.testing.driving import Driver

GEMMA3 = {
    "model_type": "gemma3_text",
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 4,
    "sliding_window_pattern": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"model_type": "mistral"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
    "gemma3": GEMMA3,
    "phi3": {"model_type": "phi3", "rope_scaling": None},
    "sliding llama": {
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "tied": {"tie_word_embeddings": True},
}
PROMPTS = ([5, 900, 33, 17, 256, 1024, 77], [3, 3, 8], [1900, 12, 640, 7, 41])
RUNTIME = RuntimeConfig(max_num_seqs=4, max_model_len=128)
LENGTH = 12


def reference(folder: Path, prompt: list[int]) -> list[int]:
    """The most probable answer, as mlx-lm generates it."""
    model, _ = mlx_lm.utils.load_model(folder)
    steps = generate_step(mx.array(prompt), model, max_tokens=LENGTH)
    return [int(token) for token, _ in itertools.islice(steps, LENGTH)]


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_mlx_lm(tmp_path: Path, family: str, bits: int | None) -> None:
    """Alone, then three at once, joined by a fourth whose prompt comes in chunks."""
    folder = mlx_folder(tmp_path, ATTENTION | FAMILIES[family], bits=bits)
    runner = inferflux_runner_mlx.load(ModelConfig(path=str(folder)), RUNTIME, on_cpu=True)
    assert runner.capabilities.details["kv_layout"] == "slots"
    expected = [reference(folder, prompt) for prompt in PROMPTS]
    driver = Driver(runner)
    assert driver.generate(0, PROMPTS[0], LENGTH) == expected[0]
    driver.release(0)
    slots = (0, 1, 3)
    rows = driver.compute(dict(zip(slots, PROMPTS, strict=True)))
    answers = {slot: [int(rows[slot].argmax())] for slot in slots}
    driver.compute({2: PROMPTS[0][:4]}, quiet=[2])
    for step in range(1, LENGTH):
        tokens = {slot: answers[slot][-1:] for slot in slots}
        if step == 5:
            tokens[2] = PROMPTS[0][4:]
        rows = driver.compute(tokens)
        if step == 5:
            assert int(rows.pop(2).argmax()) == expected[0][0]
        for slot in slots:
            answers[slot].append(int(rows[slot].argmax()))
    assert [answers[slot] for slot in slots] == expected


def test_recurrent_models_answer_as_mlx_lm_does(tmp_path: Path) -> None:
    folder = mlx_folder(tmp_path, MAMBA)
    runner = inferflux_runner_mlx.load(ModelConfig(path=str(folder)), RUNTIME, on_cpu=True)
    capabilities = runner.capabilities
    assert capabilities.details["kv_layout"] == "one by one"
    assert not capabilities.exports_state
    assert not capabilities.contiguous_slots
    assert capabilities.max_draft_tokens == 0
    assert Driver(runner).generate(2, PROMPTS[0], LENGTH) == reference(folder, PROMPTS[0])
