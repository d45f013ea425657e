"""Embeddings, ranking and tokens, over a model that counts letters."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from support.servers import RunningServer, running_server


def post(server: RunningServer, path: str, **body: Any) -> httpx2.Response:
    with server.client() as client:
        return client.post(path, json=body)


def embed(server: RunningServer, given: object, **fields: Any) -> dict[str, Any]:
    response = post(server, "/v1/embeddings", input=given, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("several")
    (folder / "model.gguf").touch()
    config = {"models": [{"name": n, "path": "model.gguf"} for n in ("ranks", "embeds")]}
    with running_server(folder, config) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    env = {"INFERFLUX_GUARDRAIL_BLOCKLIST": "swordfish"}
    with running_server(tmp_path_factory.mktemp("guarded"), {}, env) as server:
        yield server


@pytest.mark.parametrize(
    ("given", "count"),
    [("abba", 1), (["abba", "a"], 2), ([97, 98], 1), ([[97, 98], [99]], 2)],
)
def test_the_four_shapes_of_an_input(server: RunningServer, given: object, count: int) -> None:
    body = embed(server, given)
    assert body["object"] == "list"
    assert body["model"] == "scripted"
    assert [entry["index"] for entry in body["data"]] == list(range(count))
    assert all(entry["object"] == "embedding" for entry in body["data"])


def test_an_embedding_has_the_length_one(server: RunningServer) -> None:
    body = embed(server, "aaab")
    vector = np.array(body["data"][0]["embedding"])
    assert vector[ord("a")] / vector[ord("b")] == pytest.approx(3)
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


def test_base64_says_the_same(server: RunningServer) -> None:
    numbers = embed(server, ["abba", "cd"])["data"]
    texts = embed(server, ["abba", "cd"], encoding_format="base64")["data"]
    for number, text in zip(numbers, texts, strict=True):
        decoded = np.frombuffer(base64.b64decode(text["embedding"]), "<f4")
        assert decoded.tolist() == pytest.approx(number["embedding"])


def test_fewer_dimensions_are_cut_off_and_made_length_one(server: RunningServer) -> None:
    (entry,) = embed(server, "aabc", dimensions=99)["data"]
    assert len(entry["embedding"]) == 99
    assert entry["embedding"][97:] == pytest.approx([2 / 5**0.5, 1 / 5**0.5])


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"input": "a", "dimensions": 257}, "dimensions", "257"),
        ({"input": "a", "dimensions": 0}, "dimensions", ">= 1"),
        ({"input": []}, "input", "must be a string"),
        ({"input": ["a", 1]}, "input", "must be a string"),
        ({"input": ["a"] * 2049}, "input", "2048"),
        ({"input": "a" * 64}, "input", "65 tokens and this model embeds at most 64"),
        ({"input": [300]}, "prompt", "token id 300"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "hex"),
    ],
)
def test_bad_inputs(server: RunningServer, fields: dict[str, Any], param: str, reason: str) -> None:
    response = post(server, "/v1/embeddings", **fields)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert reason in error["message"]


def test_documents_are_sorted_by_similarity(server: RunningServer) -> None:
    documents = ["xyz", "abc", {"text": "abx"}]
    body = post(server, "/v1/rerank", query="abc", documents=documents).json()
    assert [entry["index"] for entry in body["results"]] == [1, 2, 0]
    scores = [entry["relevance_score"] for entry in body["results"]]
    assert scores == pytest.approx([1, 2 / 3, 0])
    assert body["results"][1]["document"] == {"text": "abx"}
    assert body["usage"]["total_tokens"] == 16


def test_only_the_best_documents(server: RunningServer) -> None:
    body = post(
        server, "/rerank", query="a", documents=["b", "a", "ab"], top_n=2, return_documents=False
    ).json()
    assert [entry["index"] for entry in body["results"]] == [1, 2]
    assert all("document" not in entry for entry in body["results"])


def test_models_that_rank_give_scores_of_their_own(several: RunningServer) -> None:
    body = post(
        several, "/v1/rerank", model="ranks", query="abc", documents=["c", "cba", "cb"]
    ).json()
    assert [entry["index"] for entry in body["results"]] == [1, 2, 0]
    assert [entry["relevance_score"] for entry in body["results"]] == [3, 2, 1]
    refused = post(several, "/v1/embeddings", model="ranks", input="a")
    assert refused.status_code == 400
    assert "/v1/rerank" in refused.json()["error"]["message"]


def test_models_that_only_embed_do_not_generate(several: RunningServer) -> None:
    refused = post(several, "/v1/completions", model="embeds", prompt="a")
    assert refused.status_code == 400
    assert "only embeds" in refused.json()["error"]["message"]
    embedded = post(several, "/v1/embeddings", model="embeds", input="a")
    assert embedded.status_code == 200


@pytest.mark.parametrize("documents", [[], [1], [{"txt": "a"}], ["a"] * 2049])
def test_bad_documents(server: RunningServer, documents: list[Any]) -> None:
    response = post(server, "/v1/rerank", query="a", documents=documents)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("documents")


def test_tokens_of_a_text(server: RunningServer) -> None:
    body = post(server, "/tokenize", prompt="h\u00e9", return_token_strs=True).json()
    bare = post(server, "/tokenize", prompt="h\u00e9", add_special_tokens=False).json()
    assert body == {
        "count": 4,
        "max_model_len": 512,
        "tokens": [256, 104, 195, 169],
        "token_strs": ["", "h", "\ufffd", "\ufffd"],
    }
    assert bare["tokens"] == [104, 195, 169]
    again = post(server, "/detokenize", tokens=body["tokens"]).json()
    assert again["prompt"] == again["content"] == "h\u00e9"


def test_tokens_as_llama_server_tells_them(server: RunningServer) -> None:
    body = post(server, "/tokenize", content="h\u00e9", with_pieces=True).json()
    assert body["tokens"] == [
        {"id": 104, "piece": "h"},
        {"id": 195, "piece": [195]},
        {"id": 169, "piece": [169]},
    ]


def test_tokens_of_a_conversation_are_what_the_model_sees(server: RunningServer) -> None:
    messages = [{"role": "user", "content": "hello"}]
    counted = post(server, "/v1/tokenize", messages=messages).json()["count"]
    answer = post(server, "/v1/chat/completions", messages=messages, max_tokens=1).json()
    assert counted == answer["usage"]["prompt_tokens"]


@pytest.mark.parametrize("body", [{}, {"prompt": "a", "content": "b"}, {"prompt": 1}])
def test_bad_questions_about_tokens(server: RunningServer, body: dict[str, Any]) -> None:
    assert post(server, "/tokenize", **body).status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "say swordfish"}),
        ("/v1/embeddings", {"input": [115, 119]}),
        ("/v1/rerank", {"query": "a", "documents": ["swordfish"]}),
        ("/v1/rerank", {"query": "swordfish", "documents": ["a"]}),
        ("/tokenize", {"prompt": "swordfish"}),
        ("/tokenize", {"messages": [{"role": "user", "content": "swordfish"}]}),
    ],
)
def test_guardrails_see_every_input(
    guarded: RunningServer, path: str, body: dict[str, Any]
) -> None:
    response = post(guarded, path, **body)
    assert response.status_code == 400
    assert "swordfish" not in response.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "a"}),
        ("/v1/rerank", {"query": "a", "documents": ["a"]}),
        ("/rerank", {"query": "a", "documents": ["a"]}),
        ("/tokenize", {"prompt": "a"}),
        ("/detokenize", {"tokens": [97]}),
    ],
)
def test_scopes(server: RunningServer, path: str, body: dict[str, Any]) -> None:
    statuses = []
    for key in ("generate-key", "read-key", None):
        with server.client(key) as client:
            statuses.append(client.post(path, json=body).status_code)
    assert statuses == [200, 403, 401]


def test_limits_audit_and_metrics(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    env = {"INFERFLUX_RATE_LIMIT_PER_MINUTE": "2", "INFERFLUX_AUDIT_LOG": str(log)}
    with running_server(tmp_path, {}, env) as server:
        with server.client("generate-key") as client:
            embedded = client.post("/v1/embeddings", json={"input": ["secret", "ab"]})
            refused = client.post("/v1/embeddings", json={"input": "a" * 65})
            limited = client.post("/tokenize", json={"prompt": "a"})
        with server.client("read-key") as client:
            metrics = client.get("/metrics").text
    assert [r.status_code for r in (embedded, refused, limited)] == [200, 400, 429]
    assert embedded.headers["x-ratelimit-remaining-requests"] == "1"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    records = [record for record in records if record["event"] in ("received", "completed")]
    assert [(r["event"], r.get("outcome"), r.get("prompt_tokens")) for r in records] == [
        ("received", None, None),
        ("completed", "stop", 10),
        ("received", None, None),
        ("completed", "error", None),
    ]
    assert "secret" not in log.read_text()
    labels = 'backend="scripted",model="scripted"'
    assert f"inferflux_prompt_tokens_total{{{labels}}} 10.0" in metrics
    assert f'inferflux_requests_total{{{labels},outcome="stop"}} 1.0' in metrics


def test_embedding_goes_on_beside_generation(server: RunningServer) -> None:
    """A long answer gets its tokens between the passes of many embeddings, which take 0.2 s each."""
    first_token, answered = threading.Event(), threading.Event()
    finished: list[bool] = []

    def generate() -> None:
        body = {"prompt": "hello", "max_tokens": 12, "stream": True}
        with (
            server.client() as client,
            client.stream("POST", "/v1/completions", json=body) as lines,
        ):
            for line in lines.iter_lines():
                if line:
                    first_token.set()
            finished.append(not answered.is_set())

    generation = threading.Thread(target=generate)
    with server.client() as client:
        worker = threading.Thread(
            target=lambda: (
                client.post("/v1/embeddings", json={"input": ["[slow]"] * 20}),
                answered.set(),
            )
        )
        worker.start()
        generation.start()
        generation.join(30)
        worker.join(30)
    assert first_token.is_set()
    assert finished == [True]


def test_a_crash_while_embedding_fails_only_those_who_waited(tmp_path: Path) -> None:
    with running_server(tmp_path, {}) as server:
        crashed = post(server, "/v1/embeddings", input="[crash]")
        server.wait_ready()
        again = post(server, "/v1/embeddings", input="a")
    assert crashed.status_code == 503
    assert crashed.json()["error"]["code"] == "engine_unavailable"
    assert again.status_code == 200
