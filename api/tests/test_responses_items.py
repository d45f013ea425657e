from __future__ import annotations

from typing import Any

import pytest

from inferflux_api.dialects.openai.responses.items import input_items, messages_of
from inferflux_core.errors import InvalidRequestError

CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "done"}
THOUGHT = {
    "type": "reasoning",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}


def read(given: Any, known: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return input_items(given, (known or {}).get)


def messages(*given: Any) -> list[dict[str, Any]]:
    return messages_of(read(list(given)))


def test_a_text_is_a_message_of_the_user() -> None:
    (item,) = read("hi")
    assert item["id"].startswith("msg_")
    assert item["content"] == [{"type": "input_text", "text": "hi"}]
    assert messages_of([item]) == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "ab"},
        {"type": "message", "role": "user", "content": "ab"},
        {"type": None, "role": "user", "content": [{"type": "input_text", "text": "ab"}]},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
    ],
)
def test_messages_in_all_their_shapes(message: dict[str, Any]) -> None:
    assert messages(message) == [{"role": "user", "content": "ab"}]


def test_developers_speak_as_the_system() -> None:
    assert messages({"role": "developer", "content": "x"})[0]["role"] == "system"


def test_a_refusal_is_text_of_the_model() -> None:
    parts = [{"type": "refusal", "refusal": "no"}]
    assert messages({"role": "assistant", "content": parts}) == [
        {"role": "assistant", "content": "no"}
    ]


def test_reasoning_text_and_calls_of_one_go_are_one_message() -> None:
    second = {**CALL, "call_id": "c2"}
    given = [THOUGHT, {"role": "assistant", "content": "I look."}, CALL, second]

    (turn,) = messages(*given)

    assert turn["reasoning_content"] == "hm"
    assert turn["content"] == "I look."
    assert [call["id"] for call in turn["tool_calls"]] == ["c1", "c2"]
    assert turn["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_what_comes_after_a_result_is_another_message() -> None:
    shown = messages({"role": "user", "content": "go"}, CALL, OUTPUT, THOUGHT, CALL)
    assert [message["role"] for message in shown] == ["user", "assistant", "tool", "assistant"]
    assert shown[2] == {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "done"}
    assert shown[3]["reasoning_content"] == "hm"


def test_a_summary_stands_for_the_reasoning() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]}
    assert messages(thought)[0]["reasoning_content"] == "so"


def test_outputs_may_have_parts() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert messages(CALL, {**OUTPUT, "output": parts})[1]["content"] == "ab"


def test_references_stand_for_items() -> None:
    known = {"msg_1": {"id": "msg_1", "type": "message", "role": "user", "content": []}}
    assert read([{"type": "item_reference", "id": "msg_1"}], known) == [known["msg_1"]]
    assert read([{"id": "msg_1"}], known) == [known["msg_1"]]


def test_names_that_clients_give_are_kept() -> None:
    assert read([{**CALL, "id": "fc_7"}])[0]["id"] == "fc_7"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({}, "input[0].id"),
        ({"type": 5}, "input[0]"),
        ({"type": []}, "input[0]"),
        ({"type": "web_search_call"}, "input[0]"),
        ({"type": "message"}, "input[0].role"),
        ({"role": [], "content": "x"}, "input[0].role"),
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": 5}, "input[0].content"),
        ({"role": "user", "content": ["x"]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": []}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_text", "text": 1}]}, "input[0].content[0]"),
        ({**CALL, "name": None}, "input[0].name"),
        ({**CALL, "arguments": {}}, "input[0].arguments"),
        ({**OUTPUT, "call_id": 5}, "input[0].call_id"),
        ({**OUTPUT, "output": None}, "input[0].output"),
        ({"type": "reasoning", "summary": "x"}, "input[0].summary"),
        ({"type": "reasoning", "content": [{}]}, "input[0].content"),
        ({"type": "item_reference", "id": "nobody"}, "input[0].id"),
        ({"type": "item_reference", "id": {}}, "input[0].id"),
        (OUTPUT, "input"),
    ],
)
def test_malformed_items_are_refused_by_name(item: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        messages(item)
    assert caught.value.param == param
