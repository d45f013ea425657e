from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PARIS = "The capital of France is Paris."


@pytest.fixture(scope="module")
def seen(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """What the openai package, in an environment of its own, got to see."""
    return run_client("openai_responses.py")


def test_an_answer_is_given_and_kept(seen: dict[str, Any]) -> None:
    whole = seen["whole"]
    assert whole["text"] == PARIS
    assert whole["same_again"]
    assert 0 < whole["logprobs"] <= whole["output_tokens"]
    assert whole["items"] == ["And of Italy?"]
    # The question, its answer and the next question, without the instructions.
    assert whole["more_input"] > 20
    assert whole["input_tokens"] == 39


def test_errors_have_the_status_and_code_that_clients_look_for(seen: dict[str, Any]) -> None:
    assert seen["whole"]["errors"] == {
        "deleted": [404, "not_found"],
        "continues_deleted": [400, "previous_response_not_found"],
        "cancel": [400, "invalid_request"],
        "image": [400, "invalid_request"],
    }


def test_a_stream_has_every_event(seen: dict[str, Any]) -> None:
    streamed = seen["streamed"]
    assert streamed["text"] == streamed["final"] == PARIS
    assert streamed["types"] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert streamed["short"] == ["response.incomplete", "max_output_tokens"]


def test_answers_are_parsed(seen: dict[str, Any]) -> None:
    assert seen["parsed"] == [{"country": "France", "city": "Paris"}] * 2


def test_a_function_is_called_and_its_output_understood(seen: dict[str, Any]) -> None:
    called = seen["called"]
    assert called["name"] == "get_weather"
    assert called["arguments"] == called["streamed"] == {"city": "Paris"}
    assert "response.function_call_arguments.delta" in called["types"]
    assert called["answer"] in ("completed", "incomplete")
    assert called["alike"], "stored state and replayed items are the same prompt"


def test_the_background_is_polled_streamed_and_cancelled(seen: dict[str, Any]) -> None:
    background = seen["background"]
    assert (background["first"], background["last"]) == ("queued", "completed")
    assert background["text"] == PARIS
    assert background["cancelled"] == "cancelled"
    assert background["resumed_at"] == 1


def test_a_socket_carries_a_conversation(seen: dict[str, Any]) -> None:
    socket = seen["socket"]
    assert socket["text"] == PARIS
    assert socket["more_input"] > 15
    assert socket["steered"] == ["response.steer.failed", "steering_not_supported"]


def test_a_session_has_lanes(seen: dict[str, Any]) -> None:
    lanes = seen["lanes"]
    assert lanes["texts"] == [PARIS, PARIS]
    assert lanes["warm"] == ["completed", []]
    assert lanes["more_input"] > 0
    assert lanes["problem"] == "previous_response_not_found"
