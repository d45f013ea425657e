"""Every family computes what transformers computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.decoder_families import FAMILIES, LLAMA3
from support.hf_folders import SMOLLM2_TOKENIZER_CONFIG, tiny_folder, tiny_tokenizer, write_json
from support.torch_runners import exact_runner
from transformers import AutoConfig, AutoModelForCausalLM

from inferflux_core.engine.runner import Work
from inferflux_core.testing.driving import Driver

PROMPT = [(17 * i) % 1900 + 5 for i in range(41)]
OTHER = [(29 * i) % 1900 + 5 for i in range(23)]
CLOSE = 2e-4
"""Of logits around 10, in float32."""


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    architecture, changes = FAMILIES[request.param]
    return tiny_folder(tmp_path / "model", f"{architecture}ForCausalLM", dtype="F32", **changes)


def reference(folder: Path, prompt: list[int]) -> np.ndarray:
    """Logits `[tokens, vocab]`, as transformers computes them."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits: np.ndarray = model(torch.tensor([prompt])).logits[0].numpy()
    return logits


def test_logits_are_those_of_transformers(folder: Path) -> None:
    """All at once; in chunks and token by token beside another sequence; in blocks that end anywhere."""
    expected, other = reference(folder, PROMPT), reference(folder, OTHER)

    runner, cache = exact_runner(folder, block_size=8)
    (whole,) = runner.execute([Work(2, 0, PROMPT, len(PROMPT))])
    assert np.abs(whole.logits - expected).max() < CLOSE
    driver = Driver(runner)
    for start, end in ((0, 13), (13, 14), (14, 15), (15, 40), (40, 41)):
        tokens = {0: PROMPT[start:end], 3: OTHER[start // 2 : end // 2]}
        rows = driver.compute({slot: ids for slot, ids in tokens.items() if ids})
        assert np.abs(rows[0] - expected[end - 1]).max() < CLOSE
        if 3 in rows:
            assert np.abs(rows[3] - other[end // 2 - 1]).max() < CLOSE
    cache.check_integrity()


def test_greedy_answers_are_those_of_transformers(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answer = model.generate(
        torch.tensor([PROMPT]), max_new_tokens=20, min_new_tokens=20, do_sample=False
    )
    runner, _ = exact_runner(folder)
    assert Driver(runner).generate(1, PROMPT, 20) == answer[0, len(PROMPT) :].tolist()


SAVED: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3 | {"rope_theta": 500_000.0}},
    "mistral": {"sliding_window": 7},
    "qwen2": {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    "qwen3": {},
    "gemma3_text": {"sliding_window": 7, "num_hidden_layers": 7, "query_pre_attn_scalar": 32},
    "phi3": {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
}


@pytest.mark.parametrize("model_type", SAVED)
def test_folders_that_transformers_saves_are_read(model_type: str, tmp_path: Path) -> None:
    """In shards, in bfloat16, with a config as this version writes it."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "head_dim": 16}
    sizes |= {"num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 2048}
    config = AutoConfig.for_model(
        model_type,
        **sizes | SAVED[model_type],
        max_position_embeddings=256,
        initializer_range=0.2,
        pad_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    write_json(tmp_path / "tokenizer.json", tiny_tokenizer())
    write_json(tmp_path / "tokenizer_config.json", SMOLLM2_TOKENIZER_CONFIG)
    expected = reference(tmp_path, PROMPT)
    assert expected.std() > 0.5

    runner, _ = exact_runner(tmp_path)
    (whole,) = runner.execute([Work(0, 0, PROMPT, len(PROMPT))])
    assert np.abs(whole.logits - expected).max() < CLOSE
