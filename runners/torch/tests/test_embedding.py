"""Decoders embed: the states that transformers computes, pooled, however they are cut into passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.encoder_folders import sentence_files
from support.hf_folders import tiny_folder, tiny_weights, write_safetensors
from support.torch_runners import exact_runner
from transformers import AutoModel

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.embedding_passes import CACHE_BYTES, PASS_TOKENS
from inferflux_core.engine.runner import Embedder, Work
from inferflux_core.errors import EngineError
from inferflux_core.testing.driving import Driver
from inferflux_runner_torch import load
from inferflux_runner_torch.pooling import Pooling
from inferflux_runner_torch.runner import TorchRunner
from inferflux_runner_torch.sentences import SentenceSettings

CLOSE = 1e-4
PROMPT = [(17 * i) % 1900 + 5 for i in range(41)]

Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder") / "tiny"
    return tiny_folder(folder, "LlamaForCausalLM", dtype="F32", model_type="llama")


def embed(runner: TorchRunner, inputs: Sequence[Sequence[int]]) -> Vectors:
    return np.concatenate(list(runner.embed(inputs)))


def texts(*lengths: int) -> list[list[int]]:
    return [[(37 * i + n) % 1900 + 10 for i in range(n)] for n in lengths]


def test_decoders_that_were_saved_without_a_head(tmp_path: Path) -> None:
    """As Qwen3-Embedding is published: without the prefix, too."""
    whole = tiny_folder(
        tmp_path / "whole",
        "Qwen3ForCausalLM",
        dtype="F32",
        model_type="qwen3",
        tie_word_embeddings=True,
    )
    bare = shutil.copytree(whole, tmp_path / "bare")
    config = json.loads((whole / "config.json").read_text())
    weights = tiny_weights(config)
    write_safetensors(
        bare / "model.safetensors",
        {name.removeprefix("model."): numbers for name, numbers in weights.items()},
        "F32",
    )
    inputs = texts(5, 9)
    found = embed(exact_runner(bare)[0], inputs)
    assert np.array_equal(found, embed(exact_runner(whole)[0], inputs))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_states_are_those_of_transformers(folder: Path, pooling: Pooling) -> None:
    """Of inputs in one pass and in several, among others and alone."""
    runner, _ = exact_runner(folder, sentences=SentenceSettings(pooling=pooling))
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    inputs = texts(5, 200, 7, 1, 130, 64)
    passes = list(runner.embed(inputs))
    assert [len(vectors) for vectors in passes[:-1]] == [0] * (len(passes) - 1)
    assert len(passes) > sum(map(len, inputs)) / PASS_TOKENS
    for vector, token_ids in zip(np.concatenate(passes), inputs, strict=True):
        with torch.inference_mode():
            states = model(torch.tensor([token_ids])).last_hidden_state[0]
        expected = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
        assert vector == pytest.approx(expected.numpy(), abs=CLOSE)


def test_sequences_beside_it_go_on(folder: Path) -> None:
    """What is embedded between two steps of an answer changes neither."""
    runner, cache = exact_runner(folder)
    expected, alone = Driver(runner).generate(0, PROMPT, 8), embed(runner, [PROMPT])
    runner.release(0)
    driver = Driver(runner)
    (row,) = driver.compute({0: PROMPT}).values()
    answer = []
    for _ in range(8):
        answer.append(int(row.argmax()))
        assert embed(runner, [PROMPT]) == pytest.approx(alone, abs=1e-6)
        (row,) = driver.compute({0: answer[-1:]}).values()
    assert answer == expected
    cache.check_integrity()


def test_giving_up_half_way_leaves_no_traces(folder: Path) -> None:
    runner, _ = exact_runner(folder)
    expected = embed(runner, [[9, 8, 7]])
    passes = runner.embed(texts(200))
    assert len(next(passes)) == 0
    passes.close()  # type: ignore[attr-defined]
    assert embed(runner, [[9, 8, 7]]) == pytest.approx(expected, abs=1e-6)


def test_more_inputs_than_memory_come_in_turn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = embed(exact_runner(folder)[0], texts(3, 4, 5, 6, 7))
    monkeypatch.setattr("inferflux_runner_torch.embedding.CACHE_BYTES", CACHE_BYTES // 1024)
    runner, _ = exact_runner(folder)
    passes = list(runner.embed(texts(3, 4, 5, 6, 7)))
    assert [len(vectors) for vectors in passes] == [2, 2, 1]
    assert np.concatenate(passes) == pytest.approx(expected, abs=1e-6)


def test_no_memory_is_an_error_of_the_call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, _ = exact_runner(folder)

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("inferflux_runner_torch.embedding.PagedCache", full)
    with pytest.raises(EngineError, match="no memory for embeddings"):
        embed(runner, [[1, 2]])
    (output,) = runner.execute([Work(0, 0, PROMPT)])
    assert np.isfinite(output.logits).all()


def test_what_sentence_transformers_left_is_obeyed(folder: Path, tmp_path: Path) -> None:
    copy = sentence_files(shutil.copytree(folder, tmp_path / "tiny"), "lasttoken", normalised=True)
    runner = load(ModelConfig(path=str(copy)), RuntimeConfig(max_model_len=64, threads=1))
    assert isinstance(runner, TorchRunner)
    assert isinstance(runner, Embedder)
    assert runner.capabilities.embeds
    assert runner.capabilities.generates
    assert runner.capabilities.details["pooling"] == "last"
    assert runner.max_embedding_tokens == 64
    vectors = embed(runner, texts(3, 9))
    assert vectors.shape == (2, 64)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
