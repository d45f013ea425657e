"""Tool calls and reasoning over OpenAI's chat endpoint, with answers that the prompt dictates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from support.servers import RunningServer, running_server

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


RUNTIME = {"backend": "scripted", "max_model_len": 4096}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With room for the tools in the prompt: a token is a byte here."""
    with running_server(tmp_path_factory.mktemp("tools"), {"runtime": RUNTIME}) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def ask(server: RunningServer, says: str, before: str = "", **fields: Any) -> httpx2.Response:
    body = {
        "messages": [{"role": "user", "content": f"{before}[say]{says}[/say]"}],
        "tools": [WEATHER, CLOCK],
        "temperature": 0,
        **fields,
    }
    with server.client() as client:
        return client.post("/v1/chat/completions", json=body)


def deltas(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    lines = response.text.split("\n\n")[:-2]
    return [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines]


def test_a_call(server: RunningServer) -> None:
    choice = ask(server, f"Let me see. {CALL}").json()["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see. "
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"].startswith("call_")
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}


def test_a_streamed_call_names_the_tool_once_and_then_the_arguments(server: RunningServer) -> None:
    choices = deltas(ask(server, CALL, stream=True, before="[slow]"))

    calls = [c for choice in choices for c in choice["delta"].get("tool_calls", [])]
    assert {call["index"] for call in calls} == {0}
    assert calls[0]["function"]["name"] == "get_weather"
    assert all("id" not in call and "name" not in call["function"] for call in calls[1:])
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(arguments) == {"city": "Paris"}
    assert len(calls) > 3, "the arguments come as they are written"
    assert not any(choice["delta"].get("content") for choice in choices)
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_two_calls(server: RunningServer) -> None:
    second = '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'
    calls = ask(server, f"{CALL}\n{second}").json()["choices"][0]["message"]["tool_calls"]

    assert [call["function"]["name"] for call in calls] == ["get_weather", "get_time"]
    assert calls[0]["id"] != calls[1]["id"]


def test_what_only_looks_like_a_call_is_text(server: RunningServer) -> None:
    text = '<tool_call>{"name": "rm", "arguments": {}}</tool_call> done'
    choice = ask(server, text).json()["choices"][0]

    assert choice["message"]["content"] == text
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("choice", ["none", None])
def test_without_tools_to_call_nothing_is_taken_for_a_call(
    server: RunningServer, choice: str | None
) -> None:
    fields = {"tool_choice": choice} if choice else {"tools": []}
    message = ask(server, CALL, **fields).json()["choices"][0]["message"]

    assert message["content"] == CALL


@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "function": {"name": "get_weather"}}],
)
def test_a_call_that_is_demanded_comes_whatever_the_model_would_say(
    server: RunningServer, choice: object
) -> None:
    answer = ask(server, "no, thank you", tools=[WEATHER], tool_choice=choice, max_tokens=400)
    chosen = answer.json()["choices"][0]

    assert chosen["finish_reason"] == "tool_calls", chosen
    for call in chosen["message"]["tool_calls"]:
        assert call["function"]["name"] == "get_weather"
        assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Rome")


def test_parallel_calls_can_be_forbidden(server: RunningServer) -> None:
    answer = ask(
        server, f"{CALL}\n{CALL}", tool_choice="required", parallel_tool_calls=False, max_tokens=400
    )

    assert len(answer.json()["choices"][0]["message"]["tool_calls"]) == 1


def test_calls_and_a_schema_go_together(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    response_format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}

    called = ask(server, CALL, response_format=response_format).json()["choices"][0]
    said = ask(server, '{"ok": true}', response_format=response_format).json()["choices"][0]

    assert called["finish_reason"] == "tool_calls"
    assert json.loads(said["message"]["content"]) == {"ok": True}


def test_the_result_of_a_call_is_part_of_the_conversation(server: RunningServer) -> None:
    messages = [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "[say]It rains.[/say]"},
    ]
    message = ask(server, "", messages=messages).json()["choices"][0]["message"]

    assert message["content"] == "It rains."


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0]"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "rm"}}}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "structured_outputs": {"regex": "a"}}, "structured_outputs"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f", "parameters": [1]}}],
            },
            "tools[0].parameters",
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": {"type": "nonsense"}},
                    }
                ],
                "tool_choice": "required",
            },
            "tool_choice",
        ),
    ],
)
def test_wrong_tools_are_refused_by_name(
    server: RunningServer, fields: dict[str, Any], param: str
) -> None:
    response = ask(server, "x", **fields)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    config = {"model": {"name": "thinks"}, "runtime": RUNTIME}
    with running_server(tmp_path_factory.mktemp("thinks"), config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def test_reasoning_is_told_apart(thinker: RunningServer) -> None:
    body = ask(thinker, "hm, well\n</think>\n\nYes.", tools=[]).json()
    message = body["choices"][0]["message"]

    assert message["content"] == "Yes."
    assert message["reasoning_content"] == message["reasoning"] == "hm, well"
    details = body["usage"]["completion_tokens_details"]
    assert 0 < details["reasoning_tokens"] < body["usage"]["completion_tokens"]


def test_streamed_reasoning_comes_first(thinker: RunningServer) -> None:
    choices = deltas(ask(thinker, f"hm</think>Yes. {CALL}", stream=True))

    kinds = [
        kind
        for choice in choices
        for kind in ("reasoning_content", "content", "tool_calls")
        if choice["delta"].get(kind)
    ]
    assert list(dict.fromkeys(kinds)) == ["reasoning_content", "content", "tool_calls"]
    assert "".join(c["delta"].get("reasoning", "") for c in choices) == "hm"


def test_a_model_can_be_told_not_to_reason(thinker: RunningServer) -> None:
    message = ask(thinker, "Yes.", tools=[], reasoning_effort="none").json()["choices"][0][
        "message"
    ]

    assert message["content"] == "Yes."
    assert "reasoning" not in message


def test_constraints_begin_after_the_reasoning(thinker: RunningServer) -> None:
    answer = ask(
        thinker, f"I may think freely</think>{CALL}", tool_choice="required", max_tokens=400
    )
    choice = answer.json()["choices"][0]

    assert choice["message"]["reasoning"] == "I may think freely"
    assert choice["finish_reason"] == "tool_calls"
