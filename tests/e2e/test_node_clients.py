"""Packages from npm against the real model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).parent / "clients"
RunClient = Callable[[str], dict[str, Any]]
ANSWER = "The capital of France is Paris."


def is_city(value: dict[str, Any]) -> bool:
    return isinstance(value["name"], str) and isinstance(value["capital"], bool)


def test_openai(run_client: RunClient) -> None:
    seen = run_client("node_openai.mjs")
    assert seen["whole"] == seen["streamed"] == ANSWER
    assert seen["usage"]["completion_tokens"] == 8
    assert seen["called"]["name"] == "get_weather"
    assert isinstance(seen["called"]["arguments"]["city"], str)
    assert seen["called"]["finish_reason"] == "tool_calls"
    assert is_city(seen["formatted"])
    assert seen["embedded"] == [576, 576]
    assert seen["response"]
    assert seen["events"][0] == "response.created"
    assert seen["events"][-1] in ("response.completed", "response.incomplete")
    assert seen["pieces"] == 3
    assert seen["models"] == ["smollm2"]
    assert seen["errors"] == {
        "key": "AuthenticationError 401 invalid_api_key",
        "model": "NotFoundError 404 model_not_found",
        "request": "BadRequestError 400 invalid_request",
    }


def test_ollama(run_client: RunClient) -> None:
    seen = run_client("node_ollama.mjs")
    assert seen["whole"] == seen["streamed"] == seen["generated"] == ANSWER
    assert (seen["done_reason"], seen["eval_count"]) == ("stop", 8)
    assert is_city(seen["formatted"])
    assert seen["embedded"] == [576, 576]
    assert seen["listed"] == seen["running"] == ["smollm2:latest"]
    assert seen["shown"] == "llama"
    assert seen["pieces"] == 3
    assert seen["aborted"].startswith("AbortError")
    assert seen["errors"]["key"].startswith("ResponseError 401")
    assert seen["errors"]["model"] == "ResponseError 404 model 'missing' not found"


def test_anthropic(run_client: RunClient) -> None:
    seen = run_client("node_anthropic.mjs")
    assert seen["whole"] == seen["streamed"] == ANSWER
    assert seen["stop_reason"] == "end_turn"
    assert (seen["usage"]["output_tokens"], seen["counted"]) == (8, 39)
    assert {"message_start", "content_block_delta", "message_stop"} <= set(seen["events"])
    assert (seen["called"]["name"], seen["called"]["stop_reason"]) == ("get_weather", "tool_use")
    assert isinstance(seen["called"]["input"]["city"], str)
    assert seen["aborted"].startswith("APIUserAbortError")
    assert seen["errors"] == {
        "key": "AuthenticationError 401",
        "model": "NotFoundError 404",
        "request": "BadRequestError 400",
    }


def test_vercels_ai(run_client: RunClient) -> None:
    seen = run_client("node_ai_sdk.mjs")
    assert seen["whole"] == seen["streamed"] == ANSWER
    assert seen["finish"] == "stop"
    assert seen["usage"] == [39, 8]
    assert seen["usage_streamed"] == 8
    assert is_city(seen["formatted"])
    assert seen["called"][0][0] == "get_weather"
    assert isinstance(seen["called"][0][1]["city"], str)
    assert seen["calls"][0] == ["get_weather", "string"]
    assert seen["embedded"] == [576, 576]
    assert seen["pieces"] == 3
    assert seen["errors"] == {"key": "AI_APICallError 401", "model": "AI_APICallError 404"}


def test_lm_studio(run_client: RunClient) -> None:
    seen = run_client("node_lmstudio.mjs")
    assert seen["whole"] == seen["streamed"] == ANSWER
    assert (seen["stop_reason"], seen["predicted"]) == ("eosFound", 8)
    assert seen["completed"]
    assert isinstance(seen["formatted"]["name"], str)
    assert seen["tokens"] == seen["counted"] == 3
    assert seen["downloaded"] == seen["loaded"] == ["smollm2"]
    assert seen["context"] == 1024
    assert (seen["pieces"], seen["cancelled"]) == (3, "userStopped")
    assert "No loaded model satisfies" in seen["errors"]["model"]
    assert "no valid API key" in seen["errors"]["key"]


@pytest.mark.parametrize("script", sorted(path.name for path in CLIENTS.glob("*.mjs")))
def test_every_script_has_a_test(script: str) -> None:
    assert f'"{script}"' in Path(__file__).read_text(encoding="utf-8")
