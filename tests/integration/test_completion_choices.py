"""What completions can be asked for: echoes of the prompt, the best of several, priorities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.servers import RunningServer, running_server

SAMPLED = {"prompt": "hello", "max_tokens": 6, "temperature": 1, "seed": 3}


def complete(server: RunningServer, **fields: Any) -> dict[str, Any]:
    with server.client() as client:
        response = client.post("/v1/completions", json=fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def refusal(server: RunningServer, **fields: Any) -> str:
    with server.client() as client:
        response = client.post("/v1/completions", json={"prompt": "hello", **fields})
    assert response.status_code == 400, response.text
    param: str = response.json()["error"]["param"]
    return param


def mean_logprob(choice: dict[str, Any]) -> float:
    logprobs: list[float] = choice["logprobs"]["token_logprobs"]
    return sum(logprobs) / len(logprobs)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    env = {"INFERFLUX_GUARDRAIL_BLOCKLIST": "swordfish"}
    with running_server(tmp_path_factory.mktemp("guarded"), {}, env) as server:
        yield server


@pytest.mark.parametrize("prompt", ["hello", [256, *b"hello"]])
def test_an_echo_comes_before_the_answer(server: RunningServer, prompt: object) -> None:
    plain = complete(server, prompt=prompt, max_tokens=4, temperature=0)
    echoed = complete(server, prompt=prompt, max_tokens=4, temperature=0, echo=True)
    assert echoed["choices"][0]["text"] == "hello" + plain["choices"][0]["text"]
    assert echoed["choices"][0]["logprobs"] is None
    assert echoed["usage"] == plain["usage"]


def test_every_prompt_has_its_own_echo(server: RunningServer) -> None:
    body = complete(server, prompt=["ab", "cd"], n=2, max_tokens=1, echo=True)
    assert [choice["text"][:2] for choice in body["choices"]] == ["ab", "ab", "cd", "cd"]


def test_an_echo_tells_how_likely_the_prompt_was(server: RunningServer) -> None:
    """As evaluation harnesses ask: what would the model have thought of a text?"""
    answer = complete(server, prompt="hi", max_tokens=4, temperature=0, logprobs=2)["choices"][0]
    whole = complete(
        server, prompt="hi" + answer["text"], max_tokens=0, temperature=0, logprobs=2, echo=True
    )["choices"][0]
    logprobs = whole["logprobs"]
    assert whole["text"] == "hi" + answer["text"]
    assert logprobs["tokens"] == ["", "h", "i", *answer["text"]]
    assert logprobs["text_offset"] == [0, 0, 1, 2, 3, 4, 5]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert all(len(top) == 2 for top in logprobs["top_logprobs"][1:])
    assert logprobs["token_logprobs"][3:] == pytest.approx(answer["logprobs"]["token_logprobs"])


@pytest.mark.parametrize("max_tokens", [0, 3])
def test_a_streamed_echo_says_the_same(server: RunningServer, max_tokens: int) -> None:
    fields = {"prompt": "hello", "max_tokens": max_tokens, "temperature": 0, "echo": True}
    whole = complete(server, **fields, logprobs=1)["choices"][0]
    with server.client() as client:
        text = client.post("/v1/completions", json={**fields, "logprobs": 1, "stream": True}).text
    chunks = [
        json.loads(line.removeprefix("data: "))["choices"][0]
        for line in text.split("\n\n")
        if line.startswith("data: {")
    ]
    parts = [chunk["logprobs"] for chunk in chunks if chunk["logprobs"]]
    assert "".join(chunk["text"] for chunk in chunks) == whole["text"]
    for key, expected in whole["logprobs"].items():
        assert [value for part in parts for value in part[key]] == expected
    assert chunks[-1]["finish_reason"] == "length"


def test_an_echo_without_tokens(server: RunningServer) -> None:
    body = complete(server, prompt="hello", max_tokens=0, echo=True)
    assert body["choices"][0]["text"] == "hello"
    assert body["choices"][0]["logprobs"] is None
    assert body["usage"]["completion_tokens"] == 0


def test_nothing_at_all_is_refused(server: RunningServer) -> None:
    assert refusal(server, max_tokens=0) == "max_tokens"


def test_the_best_of_several_is_the_likeliest(server: RunningServer) -> None:
    every = complete(server, **SAMPLED, n=8, logprobs=0)["choices"]
    every.sort(key=mean_logprob, reverse=True)
    body = complete(server, **SAMPLED, n=2, best_of=8, logprobs=0)
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert [choice["text"] for choice in body["choices"]] == [c["text"] for c in every[:2]]
    assert body["usage"]["completion_tokens"] == 48


def test_best_of_shows_no_probabilities_unasked(server: RunningServer) -> None:
    shown = complete(server, **SAMPLED, n=1, best_of=4, logprobs=0)["choices"][0]
    silent = complete(server, **SAMPLED, n=1, best_of=4)["choices"][0]
    assert silent["text"] == shown["text"]
    assert silent["logprobs"] is None


def test_each_prompt_has_a_best_answer(server: RunningServer) -> None:
    fields = {**SAMPLED, "best_of": 4}
    one = complete(server, **{**fields, "prompt": "ab"})["choices"][0]["text"]
    two = complete(server, **{**fields, "prompt": "cd"})["choices"][0]["text"]
    body = complete(server, **{**fields, "prompt": ["ab", "cd"]})
    assert [choice["text"] for choice in body["choices"]] == [one, two]


def test_the_best_is_chosen_under_guardrails(server: RunningServer, guarded: RunningServer) -> None:
    fields = {**SAMPLED, "best_of": 4, "echo": True}
    assert complete(guarded, **fields)["choices"] == complete(server, **fields)["choices"]
    assert refusal(guarded, echo=True, max_tokens=0, logprobs=1) == "logprobs"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 17}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"n": 17}, "n"),
        ({"priority": 1001}, "priority"),
        ({"priority": -1001}, "priority"),
        ({"priority": "high"}, "priority"),
    ],
)
def test_out_of_range(server: RunningServer, fields: dict[str, Any], param: str) -> None:
    assert refusal(server, **fields) == param


def test_priorities_are_taken(server: RunningServer) -> None:
    assert complete(server, prompt="hello", max_tokens=2, priority=-1000)["choices"]
    with server.client() as client:
        body = {"messages": [{"role": "user", "content": "hi"}], "priority": 7, "max_tokens": 2}
        assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_many_choices_share_one_prompt(server: RunningServer) -> None:
    """Sixteen choices of a prompt longer than a block: it is paid for once, and they differ."""
    body = complete(server, prompt="long " * 40, n=16, max_tokens=8, temperature=1, seed=1)
    assert body["usage"]["prompt_tokens"] == 201
    assert body["usage"]["completion_tokens"] == 128
    assert len({choice["text"] for choice in body["choices"]}) == 16
