"""LangChain, pydantic-ai, OpenAI's agents and the llm program against the real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

ANSWER = "The capital of France is Paris."
CITY = {"name": str, "capital": bool}


def is_city(value: dict[str, Any]) -> bool:
    return {key: type(item) for key, item in value.items()} == CITY


@pytest.fixture(scope="module")
def langchain(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return run_client("langchain_clients.py")


@pytest.mark.parametrize("kind", ["openai", "responses", "ollama"])
def test_langchain_answers_whole_and_streamed(langchain: dict[str, Any], kind: str) -> None:
    seen = langchain[kind]
    assert seen["whole"]["text"] == seen["streamed"]["text"] == ANSWER
    assert seen["whole"]["usage"]["output_tokens"] == 8
    assert seen["streamed"]["usage"] == seen["whole"]["usage"]


def test_langchain_asks_many_at_once(langchain: dict[str, Any]) -> None:
    assert langchain["openai"]["at_once"] == langchain["ollama"]["at_once"] == [ANSWER] * 3
    assert langchain["openai"]["batch"] == [ANSWER] * 2


def test_langchain_calls_tools(langchain: dict[str, Any]) -> None:
    for called in (langchain["openai"]["tools"]["called"], langchain["responses"]["called"]):
        (call,) = called["calls"]
        assert call["name"] == "get_weather"
        assert isinstance(call["args"]["city"], str)
    answer = langchain["openai"]["tools"]["answer"]
    assert answer["text"]
    assert answer["calls"] == []
    assert langchain["ollama"]["with_tools"]["text"] or langchain["ollama"]["with_tools"]["calls"]


def test_langchain_gets_structured_output(langchain: dict[str, Any]) -> None:
    assert is_city(langchain["openai"]["formatted"])
    assert is_city(langchain["openai"]["by_call"])
    assert is_city(langchain["ollama"]["formatted"])


def test_langchain_embeds(langchain: dict[str, Any]) -> None:
    assert langchain["embeddings"] == {
        "openai": [576, 576],
        "openai_tokens": 576,
        "ollama": [576, 576],
    }


def test_langchain_raises_the_clients_own_errors(langchain: dict[str, Any]) -> None:
    assert langchain["errors"] == {
        "key": "OpenAIAuthenticationError",
        "model": "OpenAIModelNotFoundError",
        "ollama_model": "ResponseError",
    }


@pytest.fixture(scope="module")
def pydantic_ai(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return run_client("pydantic_ai_agent.py")


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_pydantic_ai_runs_agents(pydantic_ai: dict[str, Any], kind: str) -> None:
    seen = pydantic_ai[kind]
    assert seen["plain"] == {"text": ANSWER, "input": 39, "output": 8}
    assert seen["streamed"] == ANSWER
    assert is_city(seen["by_tool"])
    assert is_city(seen["native"])


def test_pydantic_ai_offers_tools_and_tells_errors(pydantic_ai: dict[str, Any]) -> None:
    assert pydantic_ai["with_tool"][0] in ("answered", "UsageLimitExceeded")
    assert pydantic_ai["failure"] == 404


@pytest.fixture(scope="module")
def agents(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return run_client("openai_agents.py")


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_openais_agents_run(agents: dict[str, Any], kind: str) -> None:
    seen = agents[kind]
    assert seen["whole"] == seen["streamed"]
    assert "Paris" in seen["whole"]
    assert "raw_response_event" in seen["events"]
    assert len(seen["cities"]) == 1
    assert seen["answered"] == f"{seen['cities'][0]}: rain"
    assert seen["items"] == ["tool_call_item", "tool_call_output_item"]
    assert is_city(seen["formatted"])
    assert all(count > 0 for count in seen["usage"])


def test_openais_agents_raise_the_clients_own_errors(agents: dict[str, Any]) -> None:
    assert agents["failure"] == "model_not_found"


def test_the_llm_program(run_client: Callable[[str], dict[str, Any]]) -> None:
    seen = run_client("llm_command.py")
    assert seen["streamed"] == seen["whole"] == ANSWER
    assert seen["continued"]
    assert isinstance(seen["formatted"]["name"], str)
    assert isinstance(seen["formatted"]["capital"], bool)
    assert seen["logged"] == 4
    assert "model 'missing' is not served here" in seen["missing"]
