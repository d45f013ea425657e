"""The anthropic package against the real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def seen(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return run_client("anthropic_messages.py")


def test_messages_whole_and_streamed(seen: dict[str, Any]) -> None:
    assert "Paris" in seen["whole"]
    assert "Paris" in seen["streamed"]
    assert seen["streamed"] == seen["final"]
    assert seen["stop_reason"] in ("end_turn", "max_tokens")
    assert set(seen["at_once"]) == {seen["final"]}


def test_tokens_are_counted_as_they_are_used(seen: dict[str, Any]) -> None:
    assert seen["counted"] == seen["usage"]


def test_tools_are_called_and_answered(seen: dict[str, Any]) -> None:
    assert seen["call"]["name"] == "get_weather"
    assert isinstance(seen["call"]["input"]["city"], str)
    assert seen["call"]["reason"] == "tool_use"
    assert "input_json" in seen["events"]
    assert seen["answered"] == "message"


def test_the_stop_sequence_is_named(seen: dict[str, Any]) -> None:
    assert seen["stopped"] == ["stop_sequence", "Paris"]


def test_models_are_listed(seen: dict[str, Any]) -> None:
    assert seen["models"] == ["smollm2"]
    assert seen["model"] == "model"


def test_errors_arrive_as_the_packages_exceptions(seen: dict[str, Any]) -> None:
    assert seen["errors"] == {
        "authentication": "AuthenticationError",
        "not_found": "NotFoundError",
        "bad_request": "BadRequestError",
    }
