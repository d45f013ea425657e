"""Anthropic's dialect over HTTP, with answers that the prompt dictates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from support.servers import RunningServer, running_server

WEATHER = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
RUNTIME = {"backend": "scripted", "max_model_len": 4096}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("anthropic"), {"runtime": RUNTIME}) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    config = {"model": {"name": "thinks"}, "runtime": RUNTIME}
    with running_server(tmp_path_factory.mktemp("thinks"), config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def ask(server: RunningServer, says: str = "hello", **fields: Any) -> httpx2.Response:
    body = {
        "messages": [{"role": "user", "content": f"[say]{says}[/say]"}],
        "max_tokens": 200,
        "temperature": 0,
        **fields,
    }
    return post(server, body)


def post(server: RunningServer, body: Any, path: str = "/v1/messages") -> httpx2.Response:
    headers = {"x-api-key": "all-key", "anthropic-version": "2023-06-01"}
    return httpx2.post(f"{server.url}{path}", json=body, headers=headers, timeout=60)


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_a_whole_message(server: RunningServer) -> None:
    response = ask(server, "Hi there.")
    body = response.json()

    assert body["type"] == "message"
    assert body["role"] == "assistant"
    assert body["content"] == [{"type": "text", "text": "Hi there."}]
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    assert body["usage"]["output_tokens"] == len("Hi there.") + 1
    assert response.headers["request-id"].startswith("req_")


def test_cached_tokens_are_told_apart(server: RunningServer) -> None:
    text = "the same beginning " * 20
    first, second = (ask(server, "x", system=text).json()["usage"] for _ in range(2))

    assert second["cache_read_input_tokens"] > 0
    total = first["input_tokens"] + first["cache_read_input_tokens"]
    assert second["input_tokens"] + second["cache_read_input_tokens"] == total


def test_a_stream_has_one_block_after_another(thinker: RunningServer) -> None:
    tools = {"tools": [WEATHER]}
    found = events(ask(thinker, f"hm</think>Well. {CALL}", stream=True, **tools))
    kinds = [event["type"] for event in found if event["type"] != "ping"]

    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    blocks = [e["content_block"]["type"] for e in found if e["type"] == "content_block_start"]
    assert blocks == ["thinking", "text", "tool_use"]
    open_block = None
    for event in found:
        if event["type"] == "content_block_start":
            assert open_block is None
            open_block = event["index"]
        elif event["type"] == "content_block_delta":
            assert event["index"] == open_block
        elif event["type"] == "content_block_stop":
            assert event["index"] == open_block
            open_block = None
    deltas = [event["delta"] for event in found if event["type"] == "content_block_delta"]
    assert [d["type"] for d in deltas if "signature" in d] == ["signature_delta"]
    arguments = "".join(d["partial_json"] for d in deltas if d["type"] == "input_json_delta")
    assert json.loads(arguments) == {"city": "Paris"}
    assert found[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert found[-2]["usage"]["output_tokens"] > 10


def test_whole_blocks_say_the_same(thinker: RunningServer) -> None:
    body = ask(thinker, f"hm</think>Well. {CALL}", tools=[WEATHER]).json()

    assert [block["type"] for block in body["content"]] == ["thinking", "text", "tool_use"]
    assert body["content"][0]["thinking"] == "hm"
    assert body["content"][2]["input"] == {"city": "Paris"}
    assert body["stop_reason"] == "tool_use"


def test_thinking_can_be_turned_off(thinker: RunningServer) -> None:
    body = ask(thinker, "Well.", thinking={"type": "disabled"}).json()

    assert body["content"] == [{"type": "text", "text": "Well."}]


def test_a_stop_sequence_is_named(server: RunningServer) -> None:
    body = ask(server, "one two three", stop_sequences=["xx", " three"]).json()

    assert body["content"][0]["text"] == "one two"
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", " three")


def test_too_few_tokens_are_said(server: RunningServer) -> None:
    assert ask(server, "one two three", max_tokens=3).json()["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_demanded_call_is_made(server: RunningServer, choice: dict[str, Any]) -> None:
    choice = {**choice, "disable_parallel_tool_use": True}
    body = ask(server, "no!", tools=[WEATHER], tool_choice=choice).json()

    (block,) = body["content"]
    assert block["type"] == "tool_use"
    assert block["input"]["city"] in ("Paris", "Rome")


def test_results_of_tools_come_before_what_the_user_adds(server: RunningServer) -> None:
    messages = [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "ask", "signature": ""},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "rain", "is_error": True},
                {"type": "text", "text": "[say]Thanks.[/say]"},
            ],
        },
    ]
    body = ask(server, messages=messages, tools=[WEATHER]).json()

    assert body["content"][0]["text"] == "Thanks."


def test_an_answer_can_be_begun_by_the_caller(server: RunningServer) -> None:
    messages = [
        {"role": "user", "content": "[say]one two[/say]"},
        {"role": "assistant", "content": "one "},
    ]

    assert ask(server, messages=messages).json()["content"][0]["text"] in ("two", " two")


def test_an_answer_can_be_made_to_keep_to_a_schema(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    output = {"format": {"type": "json_schema", "schema": schema}}
    body = ask(server, '{"ok": true}', output_config=output).json()

    assert json.loads(body["content"][0]["text"]) == {"ok": True}


def test_tokens_are_counted_with_tools(server: RunningServer) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}]}
    path = "/v1/messages/count_tokens"
    without = post(server, body, path).json()["input_tokens"]
    usage = post(server, {**body, "max_tokens": 1}).json()["usage"]
    with_tools = post(server, {**body, "tools": [WEATHER]}, path).json()["input_tokens"]

    assert without == usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert with_tools > without + 100


def test_models_in_anthropics_shape(server: RunningServer) -> None:
    headers = {"x-api-key": "all-key", "anthropic-version": "2023-06-01"}
    found = httpx2.get(f"{server.url}/v1/models", headers=headers).json()
    one = httpx2.get(f"{server.url}/v1/models/scripted", headers=headers).json()

    assert found["data"] == [one]
    assert one["type"] == "model"
    assert found["has_more"] is False


BLOCKS: list[Any] = [
    [{"type": "image", "source": {"type": "base64", "data": "", "media_type": "image/png"}}],
    [{"type": "tool_result"}],
    [{"type": "tool_result", "tool_use_id": "a", "content": [1]}],
    [{"type": "text"}],
    [{"type": "text", "text": 1}],
    [7],
    7,
]


@pytest.mark.parametrize(
    "fields",
    [
        *({"messages": [{"role": "user", "content": content}]} for content in BLOCKS),
        {"messages": []},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": 1}]}]},
        {"system": [{"type": "image"}]},
        {"max_tokens": 0},
        {"max_tokens": "many"},
        {"temperature": 3},
        {"top_k": -1},
        {"stop_sequences": ["x"] * 99},
        {"tools": [{"name": "web_search", "type": "web_search_20250305"}]},
        {"tools": [{"name": "a b", "input_schema": {"type": "object"}}]},
        {"tool_choice": {"type": "any"}},
        {"tools": [WEATHER], "tool_choice": {"type": "tool"}},
        {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}},
        {"output_config": {"format": {"type": "xml"}}},
    ],
)
def test_bad_requests_are_refused_in_anthropics_shape(
    server: RunningServer, fields: dict[str, Any]
) -> None:
    response = ask(server, **fields)
    body = response.json()

    assert response.status_code == 400, response.text
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["request_id"] == response.headers["request-id"]


def test_other_errors_have_anthropics_names(server: RunningServer) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    url = f"{server.url}/v1/messages"
    found = {
        httpx2.post(url, json=body).status_code: httpx2.post(url, json=body).json(),
        (response := post(server, {**body, "model": "none"})).status_code: response.json(),
        (get := httpx2.get(url)).status_code: get.json(),
    }
    forbidden = httpx2.post(url, json=body, headers={"x-api-key": "read-key"})

    assert found[401]["error"]["type"] == "authentication_error"
    assert found[404]["error"]["type"] == "not_found_error"
    assert found[405]["error"]["type"] == "invalid_request_error"
    assert forbidden.json()["error"]["type"] == "permission_error"


def test_an_error_before_the_first_token_is_no_stream(server: RunningServer) -> None:
    messages = [{"role": "user", "content": "[fail]"}]
    response = ask(server, messages=messages, stream=True)

    assert response.status_code == 500
    assert response.json()["error"]["type"] == "api_error"
