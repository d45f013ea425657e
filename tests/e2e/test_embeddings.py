"""Embeddings, ranking and what completions offer beside text, on the real model and on tiny BERTs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from gguf import PoolingType
from support.servers import RunningServer, running_server
from support.tiny_bert import make_bert

MODEL = "smollm2"


@pytest.fixture(scope="module")
def session(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """What the openai package, in an environment of its own, got to see."""
    return run_client("openai_embeddings.py")


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("reranker")
    path = make_bert(folder / "reranker.gguf", pooling=PoolingType.RANK)
    config = {"model": {"path": str(path)}, "runtime": {"backend": "cpu"}}
    with running_server(folder, config) as server:
        yield server


def test_the_openai_package_embeds(session: dict[str, Any]) -> None:
    vectors = np.array(session["by_default"])
    assert vectors.shape == (3, 576)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert (vectors * session["as_numbers"]).sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert session["usage"]["prompt_tokens"] == session["usage"]["total_tokens"] > 20


def test_fewer_dimensions_keep_the_direction(session: dict[str, Any]) -> None:
    short, whole = np.array(session["short"]), np.array(session["by_default"][0][:64])
    assert short @ (whole / np.linalg.norm(whole)) == pytest.approx(1, abs=1e-4)


def test_the_limit_is_named(session: dict[str, Any]) -> None:
    assert "embeds at most 1024 at once" in session["too_long"]


def test_an_echo_tells_how_likely_the_prompt_was(session: dict[str, Any]) -> None:
    choice = session["echoed"]
    logprobs = choice["logprobs"]
    assert choice["text"] == "".join(logprobs["tokens"])
    assert logprobs["token_logprobs"][0] is None
    # Nobody doubts the second "capital" after the first one, or that "of" follows it.
    assert logprobs["token_logprobs"][logprobs["tokens"].index(" of")] > -1
    assert all(top for top in logprobs["top_logprobs"][1:])


def test_the_best_of_several(session: dict[str, Any]) -> None:
    assert len(session["best"]) == 2
    assert session["best_tokens"] > 2 * 6


def test_documents_are_ranked(real_server: RunningServer) -> None:
    documents = ["Revenue rose by ten percent.", "A cat lay on a rug."]
    with real_server.client() as client:
        body = client.post(
            "/v1/rerank", json={"query": "The cat sat on the mat.", "documents": documents}
        ).json()
    assert [entry["index"] for entry in body["results"]] == [1, 0]


def test_a_reranker_serves(reranker: RunningServer) -> None:
    with reranker.client() as client:
        ranked = client.post("/rerank", json={"query": "paris", "documents": ["a cat", "france"]})
        refused = client.post("/v1/completions", json={"prompt": "a"})
        (model,) = client.get("/v1/models").json()["data"]
    scores = [entry["relevance_score"] for entry in ranked.json()["results"]]
    assert sorted(scores, reverse=True) == scores
    assert len(set(scores)) == 2
    assert refused.status_code == 400
    assert "only embeds" in refused.json()["error"]["message"]
    assert model["max_model_len"] == 64
