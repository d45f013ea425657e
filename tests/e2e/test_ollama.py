"""The ollama package against the real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def seen(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return run_client("ollama_chat.py")


def test_answers_whole_and_streamed(seen: dict[str, Any]) -> None:
    assert "Paris" in seen["whole"]
    assert seen["streamed"] == seen["whole"]
    assert "Paris" in seen["generated"]
    assert set(seen["at_once"]) == {seen["whole"]}


def test_figures_are_told(seen: dict[str, Any]) -> None:
    assert all(value > 0 for value in seen["figures"].values()), seen["figures"]
    assert seen["done_reason"] in ("stop", "length")


def test_context_grows(seen: dict[str, Any]) -> None:
    assert seen["context_again"] > seen["context"] > 20


def test_formats_and_tools(seen: dict[str, Any]) -> None:
    assert isinstance(seen["formatted"]["city"], str)
    assert seen["with_tools"]


def test_models_in_memory(seen: dict[str, Any]) -> None:
    assert seen["running"] == ["smollm2:latest"]
    assert seen["loaded"] == "load"


def test_errors_have_status_and_text(seen: dict[str, Any]) -> None:
    assert seen["errors"]["unknown"] == [404, "model 'none' not found"]
    assert seen["errors"]["anonymous"][0] == 401
    assert seen["errors"]["no_thoughts"] == [400, '"smollm2" does not support thinking']
