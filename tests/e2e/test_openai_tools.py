"""The openai package's tools, helpers, files and batches against the real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def seen(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return run_client("openai_tools.py")


def test_a_demanded_call_is_made_whole_and_streamed(seen: dict[str, Any]) -> None:
    assert seen["demanded"]["name"] == "GetWeather"
    assert isinstance(seen["demanded"]["arguments"]["city"], str)
    assert seen["streamed"].keys() == {"city"}
    assert seen["finish_reason"] == seen["finish_streamed"] == "tool_calls"


def test_the_stream_helper_sees_every_kind_of_event(seen: dict[str, Any]) -> None:
    assert {
        "chunk",
        "tool_calls.function.arguments.delta",
        "tool_calls.function.arguments.done",
    } <= set(seen["events"])
    assert isinstance(seen["parsed_call"]["city"], str)


def test_answers_are_parsed_into_models(seen: dict[str, Any]) -> None:
    assert isinstance(seen["parsed"]["name"], str)
    assert isinstance(seen["parsed"]["capital"], bool)


def test_the_conversation_goes_on_after_a_call(seen: dict[str, Any]) -> None:
    assert seen["answered"] in ("stop", "length")


def test_requests_at_once_are_answered_alike(seen: dict[str, Any]) -> None:
    assert len(seen["at_once"]) == 4
    assert len(set(seen["at_once"])) == 1


def test_a_batch_is_worked_through(seen: dict[str, Any]) -> None:
    assert seen["batch"] == "completed"
    assert seen["batch_ids"] == ["n0", "n1", "n2"]
    assert seen["files"], "the batch's output is a file, too"
    assert len(seen["batches"]) == 1
