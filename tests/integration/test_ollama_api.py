"""Ollama's dialect over HTTP, with answers that the prompt dictates."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from support.servers import RunningServer, running_server

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
RUNTIME = {"backend": "scripted", "max_model_len": 4096}
FIGURES = {"total_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("ollama")
    (folder / "file").touch()
    names = ("scripted", "thinks", "Other:7b")
    config = {"models": [{"name": n, "path": "file"} for n in names], "runtime": RUNTIME}
    with running_server(folder, config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def post(server: RunningServer, path: str, key: str = "all-key", **body: Any) -> httpx2.Response:
    with server.client(key) as client:
        return client.post(path, json={"model": "scripted", **body})


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"[say]{text}[/say]"}]


def lines(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_chat_streams_lines_unless_told_otherwise(server: RunningServer) -> None:
    found = lines(post(server, "/api/chat", messages=say("Hello there.")))
    last = found[-1]

    assert "".join(line["message"]["content"] for line in found) == "Hello there."
    assert [line["done"] for line in found] == [False] * (len(found) - 1) + [True]
    assert {line["model"] for line in found} == {"scripted"}
    assert last["done_reason"] == "stop"
    assert last.keys() >= FIGURES
    assert last["eval_count"] == len("Hello there.") + 1
    assert all(isinstance(last[name], int) and last[name] > 0 for name in FIGURES)


def test_a_whole_chat(server: RunningServer) -> None:
    response = post(server, "/api/chat", messages=say("Hello."), stream=False)
    body = response.json()

    assert response.headers["content-type"].startswith("application/json")
    assert body["message"] == {"role": "assistant", "content": "Hello."}
    assert body["done"] is True
    assert body.keys() >= FIGURES


def test_a_call_comes_whole_with_an_object_of_arguments(server: RunningServer) -> None:
    body = {"messages": say(f"I look. {CALL}"), "tools": [WEATHER]}
    streamed = lines(post(server, "/api/chat", **body))
    whole = post(server, "/api/chat", stream=False, **body).json()

    (line,) = [line for line in streamed if "tool_calls" in line["message"]]
    for message in (line["message"], whole["message"]):
        (call,) = message["tool_calls"]
        assert call["function"]["name"] == "get_weather"
        assert call["function"]["arguments"] == {"city": "Paris"}
    assert "".join(line["message"]["content"] for line in streamed) == "I look. "
    assert streamed[-1]["done_reason"] == whole["done_reason"] == "stop"


def test_a_result_of_a_tool_is_part_of_the_conversation(server: RunningServer) -> None:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_name": "get_weather", "content": "[say]Rain.[/say]"},
    ]
    body = post(server, "/api/chat", messages=messages, tools=[WEATHER], stream=False).json()

    assert body["message"]["content"] == "Rain."


def test_thinking_has_its_own_field(server: RunningServer) -> None:
    body = {"model": "thinks", "messages": say("hm</think>Yes.")}
    found = lines(post(server, "/api/chat", **body))
    without = post(
        server, "/api/chat", **body | {"messages": say("Yes.")}, think=False, stream=False
    )
    generated = post(
        server, "/api/generate", model="thinks", prompt="[say]hm</think>Yes.[/say]", stream=False
    ).json()

    assert "".join(line["message"].get("thinking", "") for line in found) == "hm"
    assert "".join(line["message"]["content"] for line in found) == "Yes."
    assert without.json()["message"] == {"role": "assistant", "content": "Yes."}
    assert (generated["thinking"], generated["response"]) == ("hm", "Yes.")


def test_a_model_that_does_not_think_says_so(server: RunningServer) -> None:
    response = post(server, "/api/chat", messages=say("x"), think=True)

    assert response.status_code == 400
    assert response.json() == {"error": '"scripted" does not support thinking'}


def test_generate_gives_tokens_to_go_on_from(server: RunningServer) -> None:
    first = lines(post(server, "/api/generate", prompt="[say]one[/say]", system="Be brief."))
    last = first[-1]
    again = post(
        server, "/api/generate", prompt="[say]two[/say]", context=last["context"], stream=False
    ).json()

    assert "".join(line["response"] for line in first) == "one"
    assert last["prompt_eval_count"] + len("one") == len(last["context"])
    assert bytes(last["context"][1:]).startswith(b"system: Be brief.")
    assert again["response"] == "two"
    assert again["prompt_eval_count"] > last["prompt_eval_count"]
    assert again["context"][: len(last["context"])] == last["context"]


def test_raw_prompts_are_left_as_they_are(server: RunningServer) -> None:
    body = post(server, "/api/generate", prompt="[say]raw[/say]", raw=True, stream=False).json()

    assert body["response"] == "raw"
    assert "context" not in body
    assert body["prompt_eval_count"] in (len("[say]raw[/say]"), len("[say]raw[/say]") + 1)


def test_formats_are_kept_to(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    by_schema = post(server, "/api/chat", messages=say('{"n": 3}'), format=schema, stream=False)
    by_name = post(
        server, "/api/generate", prompt='[say]{"a": 1}[/say]', format="json", stream=False
    )

    assert json.loads(by_schema.json()["message"]["content"]) == {"n": 3}
    assert json.loads(by_name.json()["response"]) == {"a": 1}


def test_options(server: RunningServer) -> None:
    options = {"num_predict": 3.0, "temperature": 0, "num_gpu": 99, "no_such_option": "x"}
    body = post(server, "/api/chat", messages=say("abcdef"), options=options, stream=False).json()
    stopped = post(
        server, "/api/chat", messages=say("abcdef"), options={"stop": ["d"]}, stream=False
    ).json()

    assert (body["message"]["content"], body["done_reason"]) == ("abc", "length")
    assert stopped["message"]["content"] == "abc"


def test_logprobs(server: RunningServer) -> None:
    found = lines(post(server, "/api/chat", messages=say("ab"), logprobs=True, top_logprobs=2))
    tokens = [entry for line in found for entry in line.get("logprobs", [])]

    assert [entry["token"] for entry in tokens][:2] == ["a", "b"]
    assert all(len(entry["top_logprobs"]) == 2 for entry in tokens)


@pytest.mark.parametrize(
    "name",
    [
        *("scripted", "SCRIPTED", "scripted:latest", "registry.ollama.ai/library/scripted:latest"),
        *("library/scripted", "other:7B"),
    ],
)
def test_names_are_those_of_ollama(server: RunningServer, name: str) -> None:
    body = post(server, "/api/chat", model=name, messages=say("x"), stream=False).json()

    assert body["model"] == name
    assert body["message"]["content"] == "x"


def test_requests_without_a_prompt_load_and_unload(server: RunningServer) -> None:
    def loaded() -> set[str]:
        with server.client() as client:
            return {model["name"] for model in client.get("/api/ps").json()["models"]}

    gone = post(server, "/api/chat", model="Other:7b", messages=[], keep_alive=0).json()
    after_unload = loaded()
    again = post(server, "/api/chat", model="Other:7b", messages=[], keep_alive=0)
    back = post(server, "/api/generate", model="Other:7b", keep_alive="10m").json()
    after_load = loaded()

    assert (gone["done"], gone["done_reason"]) == (True, "unload")
    assert "Other:7b" not in after_unload
    assert again.status_code == 200
    assert (back["done_reason"], back["response"]) == ("load", "")
    assert "Other:7b" in after_load


def test_a_model_goes_when_its_time_is_over(server: RunningServer) -> None:
    post(server, "/api/chat", model="Other:7b", messages=say("x"), keep_alive=0.05, stream=False)
    deadline = time.monotonic() + 10
    with server.client() as client:
        while "Other:7b" in client.get("/api/ps").text:
            assert time.monotonic() < deadline


def test_who_may_not_unload_a_model_does_not(server: RunningServer) -> None:
    response = post(server, "/api/generate", key="generate-key", keep_alive=0)
    post(server, "/api/chat", key="generate-key", messages=say("x"), keep_alive=0, stream=False)

    assert response.status_code == 403
    with server.client() as client:
        assert "scripted:latest" in client.get("/api/ps").text


def test_embeddings(server: RunningServer) -> None:
    both = post(server, "/api/embed", input=["aab", "b"]).json()
    old = post(server, "/api/embeddings", prompt="aab").json()
    nothing = post(server, "/api/embed", input="").json()

    assert len(both["embeddings"]) == 2
    assert sum(x * x for x in both["embeddings"][0]) == pytest.approx(1)
    assert both["prompt_eval_count"] > 3
    assert max(old["embedding"]) == 2, "not made to have the length 1"
    assert nothing["embeddings"] == []


def test_heartbeats_need_no_key(server: RunningServer) -> None:
    root = httpx2.get(server.url)

    assert root.text == "Ollama is running"
    assert httpx2.head(server.url).status_code == 200
    assert httpx2.head(f"{server.url}/api/version").status_code == 200
    assert httpx2.get(f"{server.url}/api/version").json()["version"].count(".") == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": [{"role": "robot", "content": "x"}]}),
        ("/api/chat", {"messages": [{"role": "user", "content": ["x"]}]}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["aa"]}]}),
        ("/api/chat", {"messages": say("x"), "options": {"num_predict": "many"}}),
        ("/api/chat", {"messages": say("x"), "options": {"top_k": 1.5}}),
        ("/api/chat", {"messages": say("x"), "options": {"temperature": -1}}),
        ("/api/chat", {"messages": say("x"), "options": {"num_ctx": 1_000_000}}),
        ("/api/chat", {"messages": say("x"), "options": {"seed": float("1e300")}}),
        ("/api/chat", {"messages": say("x"), "format": "xml"}),
        ("/api/chat", {"messages": say("x"), "format": {"type": "nonsense"}}),
        ("/api/chat", {"messages": say("x"), "keep_alive": "soon"}),
        ("/api/chat", {"messages": say("x"), "tools": [{"type": "web"}]}),
        ("/api/chat", {"messages": say("x"), "top_logprobs": 3}),
        ("/api/chat", {"messages": say("x"), "top_logprobs": 21, "logprobs": True}),
        ("/api/chat", {"messages": [{"role": "assistant", "tool_calls": [{"function": 1}]}]}),
        ("/api/generate", {"prompt": "x", "suffix": "y"}),
        ("/api/generate", {"prompt": "x", "template": "{{ .Prompt }}"}),
        ("/api/generate", {"prompt": "x", "raw": True, "system": "y"}),
        ("/api/generate", {"prompt": "x", "context": [1 << 40]}),
        ("/api/generate", {"prompt": "y" * 5000}),
        ("/api/embed", {"input": 7}),
        ("/api/embed", {"input": "x", "dimensions": 9999}),
    ],
)
def test_bad_requests_are_refused_in_one_flat_line(
    server: RunningServer, path: str, body: dict[str, Any]
) -> None:
    response = post(server, path, **body)

    assert response.status_code == 400, response.text
    assert response.json().keys() == {"error"}
    assert isinstance(response.json()["error"], str)


def test_other_errors_are_flat_too(server: RunningServer) -> None:
    unknown = post(server, "/api/chat", model="none", messages=say("x"))
    nowhere = httpx2.get(f"{server.url}/api/nowhere")
    anonymous = httpx2.post(f"{server.url}/api/chat", json={"model": "scripted"})
    empty = httpx2.post(
        f"{server.url}/api/chat", content=b"", headers={"authorization": "Bearer all-key"}
    )

    assert (unknown.status_code, unknown.json()) == (404, {"error": "model 'none' not found"})
    assert (nowhere.status_code, list(nowhere.json())) == (404, ["error"])
    assert (anonymous.status_code, list(anonymous.json())) == (401, ["error"])
    assert (empty.status_code, list(empty.json())) == (400, ["error"])


def test_an_error_before_the_first_line_has_its_status(server: RunningServer) -> None:
    response = post(server, "/api/chat", messages=[{"role": "user", "content": "[fail]"}])

    assert response.status_code == 500
    assert list(response.json()) == ["error"]
