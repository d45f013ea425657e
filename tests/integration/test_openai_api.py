from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from support.servers import RunningServer

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 12, "temperature": 0}


def chat(server: RunningServer, **changes: Any) -> httpx2.Response:
    with server.client() as client:
        return client.post("/v1/chat/completions", json={**CHAT, **changes})


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    lines = response.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_a_whole_chat(server: RunningServer) -> None:
    body = chat(server).json()

    assert body["object"] == "chat.completion"
    assert body["model"] == "scripted"
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert len(choice["message"]["content"]) == 12
    assert choice["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 12
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 12


def test_a_streamed_chat_says_the_same(server: RunningServer) -> None:
    whole = chat(server).json()["choices"][0]["message"]["content"]
    response = chat(server, stream=True, stream_options={"include_usage": True})

    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = events(response)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    content = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]]
    assert "".join(text for text in content if text) == whole
    assert all(text != "" for text in content[1:])
    assert chunks[-2]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "length",
    }
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 12


def test_several_choices(server: RunningServer) -> None:
    body = chat(server, n=3, temperature=1, seed=5).json()

    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert body["usage"]["completion_tokens"] == 36
    assert body["usage"]["prompt_tokens"] == chat(server).json()["usage"]["prompt_tokens"]
    assert texts == [
        c["message"]["content"] for c in chat(server, n=3, temperature=1, seed=5).json()["choices"]
    ]


def test_several_streamed_choices(server: RunningServer) -> None:
    chunks = events(chat(server, n=2, stream=True))
    ends = [c["choices"][0]["index"] for c in chunks if c["choices"][0]["finish_reason"]]
    assert sorted(ends) == [0, 1]


def test_stop_strings_are_not_part_of_the_answer(server: RunningServer) -> None:
    whole = chat(server).json()["choices"][0]["message"]["content"]
    choice = chat(server, stop=whole[4:7]).json()["choices"][0]
    assert choice["message"]["content"] == whole[: whole.find(whole[4:7])]
    assert choice["finish_reason"] == "stop"


def test_logprobs(server: RunningServer) -> None:
    (choice,) = chat(server, logprobs=True, top_logprobs=3).json()["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == choice["message"]["content"]
    assert all(len(token["top_logprobs"]) == 3 for token in content)
    assert all(bytes(token["bytes"]).decode() == token["token"] for token in content)


def test_null_means_absent_and_unknown_fields_are_ignored(server: RunningServer) -> None:
    response = chat(server, temperature=None, stop=None, tools=None, user="x", store=True, top_k=-1)
    assert response.status_code == 200


def test_any_content_type_will_do(server: RunningServer) -> None:
    with server.client() as client:
        response = client.post(
            "/v1/chat/completions",
            content=json.dumps(CHAT),
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("prompt", "choices"),
    [("hello", 1), (["a", "b"], 2), ([104, 105], 1), ([[104], [105, 106]], 2)],
)
def test_completions(server: RunningServer, prompt: object, choices: int) -> None:
    with server.client() as client:
        body = client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 4}).json()
    assert body["object"] == "text_completion"
    assert [choice["index"] for choice in body["choices"]] == list(range(choices))
    assert all(len(choice["text"]) == 4 for choice in body["choices"])


def test_completion_logprobs_have_the_legacy_shape(server: RunningServer) -> None:
    with server.client() as client:
        body = client.post(
            "/v1/completions", json={"prompt": "hi", "max_tokens": 3, "logprobs": 2}
        ).json()
    logprobs = body["choices"][0]["logprobs"]
    assert logprobs["text_offset"] == [0, 1, 2]
    assert [len(top) for top in logprobs["top_logprobs"]] == [2, 2, 2]


def test_models(server: RunningServer) -> None:
    with server.client("read-key") as client:
        listed = client.get("/v1/models").json()
        one = client.get("/v1/models/scripted").json()
    assert listed["object"] == "list"
    assert listed["data"] == [one]
    assert one["id"] == "scripted"
    assert one["backend"] == "scripted"


def test_openapi_describes_every_endpoint(server: RunningServer) -> None:
    with server.client("read-key") as client:
        document = client.get("/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/readyz"} <= set(
        document["paths"]
    )
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    reference = body["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
    assert "messages" in schema["properties"]
