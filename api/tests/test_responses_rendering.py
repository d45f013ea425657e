from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from inferflux_api.dialects.openai.responses.draft import Draft
from inferflux_api.dialects.openai.responses.events import Framing, split_events
from inferflux_api.dialects.openai.responses.rendering import ResponseRenderer
from inferflux_api.generation import Delta, Usage
from inferflux_core.engine.protocol import TokenReport
from inferflux_core.errors import EngineError, RateLimitedError
from inferflux_core.tool_calls.parser import ToolCallDelta

OPENING = ["response.created", "response.in_progress"]
MESSAGE = [
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
REASONING = [
    "response.output_item.added",
    "response.content_part.added",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
CALL = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
]


def renderer(kept: list[bytes] | None = None, **options: Any) -> ResponseRenderer:
    draft = Draft("resp_1", 1, "m", {}, Usage())
    return ResponseRenderer(draft, (kept if kept is not None else []).append, **options)


def decoded(data: bytes) -> list[dict[str, Any]]:
    events = []
    for event in split_events(data):
        name, content = event.decode().removesuffix("\n\n").split("\n")
        body = json.loads(content.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        events.append(body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def played(*deltas: Delta, **options: Any) -> list[dict[str, Any]]:
    writer = renderer(**options)
    data = writer.start() + b"".join(writer.delta(delta) for delta in deltas)
    return decoded(data + asyncio.run(writer.end()))


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def test_text() -> None:
    events = played(Delta(0, 'a"\n'), Delta(0, "b", "stop"))

    assert types(events) == [*OPENING, *MESSAGE[:3], *MESSAGE[2:], "response.completed"]
    assert [e["delta"] for e in events if "delta" in e] == ['a"\n', "b"]
    last = events[-1]["response"]
    assert last["status"] == "completed"
    assert last["output"][0]["content"][0]["text"] == 'a"\nb'
    assert last["output"][0]["status"] == "completed"
    assert {e["item_id"] for e in events if "item_id" in e} == {last["output"][0]["id"]}


def test_reasoning_text_and_calls_are_items_of_their_own() -> None:
    calls = [ToolCallDelta(0, "call_1", "f"), ToolCallDelta(0, arguments="{}")]
    second = [ToolCallDelta(1, "call_2", "g", "{}")]
    events = played(
        Delta(0, "", reasoning="hm"),
        Delta(0, "so"),
        Delta(0, "", tool_calls=calls),
        Delta(0, "", "tool_calls", tool_calls=second),
    )

    assert types(events) == [
        *OPENING, *REASONING, *MESSAGE, *CALL, *CALL, "response.completed"
    ]  # fmt: skip
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == [
        "reasoning", "message", "function_call", "function_call"
    ]  # fmt: skip
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert [item["arguments"] for item in output[2:]] == ["{}", "{}"]
    added = [e for e in events if e["type"] == "response.output_item.added"]
    assert [e["output_index"] for e in added] == [0, 1, 2, 3]
    assert [e["item"]["id"] for e in added] == [item["id"] for item in output]


def test_text_comes_between_the_calls_of_its_delta() -> None:
    mixed = [ToolCallDelta(0, arguments="}"), ToolCallDelta(1, "call_2", "g", "{}")]
    events = played(
        Delta(0, "", tool_calls=[ToolCallDelta(0, "call_1", "f", "{")]),
        Delta(0, " and ", tool_calls=mixed),
        Delta(0, ".", "tool_calls"),
    )

    output = events[-1]["response"]["output"]
    shown = [item.get("arguments") or item["content"][0]["text"] for item in output]
    assert shown == ["{}", " and ", "{}", "."]


def test_who_asks_for_a_summary_gets_the_reasoning_as_one() -> None:
    events = played(Delta(0, "", reasoning="hm"), Delta(0, "so", "stop"), summary=True)

    assert types(events)[3:7] == [
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ]
    assert all(e["summary_index"] == 0 for e in events[3:7])
    item = events[-1]["response"]["output"][0]
    assert item["summary"] == [{"type": "summary_text", "text": "hm"}]


def report(piece: bytes) -> TokenReport:
    return TokenReport(token_id=0, piece=piece, logprob=-1.0, alternatives=[])


def test_log_probabilities_go_with_the_text_they_belong_to() -> None:
    halves = "é".encode()
    events = played(
        Delta(0, "", reports=[report(halves[:1])]),
        Delta(0, "é", "stop", reports=[report(halves[1:])]),
    )

    deltas = [e for e in events if e["type"] == "response.output_text.delta"]
    assert [[lp["bytes"] for lp in e["logprobs"]] for e in deltas] == [[[0xC3], [0xA9]]]
    assert len(events[-1]["response"]["output"][0]["content"][0]["logprobs"]) == 2


def test_log_probabilities_of_calls_are_not_those_of_text() -> None:
    call = [ToolCallDelta(0, "call_1", "f", "{}")]
    events = played(
        Delta(0, "", reports=[report(b"<")], tool_calls=call),
        Delta(0, "a", "stop", reports=[report(b"a")]),
    )

    message = events[-1]["response"]["output"][1]
    assert [lp["token"] for lp in message["content"][0]["logprobs"]] == ["a"]


@pytest.mark.parametrize(
    ("reason", "told"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_is_incomplete(reason: str, told: str) -> None:
    last = played(Delta(0, "a", reason))[-1]

    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": told}
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert last["response"]["completed_at"] is None


def test_an_answer_without_anything_is_an_empty_message() -> None:
    output = played(Delta(0, "", "stop"))[-1]["response"]["output"]
    assert [part["text"] for part in output[0]["content"]] == [""]


@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineError("broken"), "server_error"), (RateLimitedError("slow"), "rate_limit_exceeded")],
)
def test_a_failure_ends_the_stream_and_is_kept(error: Any, code: str) -> None:
    kept: list[bytes] = []
    writer = renderer(kept)
    events = decoded(writer.start() + writer.delta(Delta(0, "a")) + writer.error(error))

    assert types(events)[-2:] == ["response.output_item.done", "response.failed"]
    failed = events[-1]["response"]
    assert failed["error"] == {"code": code, "message": error.message}
    assert failed["usage"]["output_tokens"] == 0
    assert [json.loads(body) for body in kept] == [failed]


def test_what_waits_is_queued_first() -> None:
    writer = renderer()
    data = writer.queued() + writer.start() + writer.delta(Delta(0, "a", "stop"))
    events = decoded(data + asyncio.run(writer.end()))

    assert types(events)[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert [e["response"]["status"] for e in events[:3]] == ["queued", "queued", "in_progress"]


def test_a_response_that_only_warms_up_shows_nothing() -> None:
    events = played(Delta(0, "a", "length"), silent=True)
    assert types(events) == [*OPENING, "response.completed"]
    assert events[-1]["response"]["output"] == []


def test_events_of_a_lane_tell_its_name() -> None:
    writer = renderer(framing=Framing(named=False, closing=b',"stream_id":"a"}\n'))
    lines = (writer.start() + writer.delta(Delta(0, "x\u2028\n"))).splitlines()
    assert {json.loads(line)["stream_id"] for line in lines} == {"a"}
    assert json.loads(lines[-1])["delta"] == "x\u2028\n"
