"""The lmstudio package against the real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def seen(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return run_client("lmstudio_sdk.py")


def test_answers_whole_and_in_fragments(seen: dict[str, Any]) -> None:
    assert "Paris" in seen["whole"]
    assert seen["streamed"] == seen["whole"] == seen["async"]
    assert seen["pieces"] > 3
    assert seen["progress"][-1] == 1.0
    assert seen["stop_reason"] in ("eosFound", "maxPredictedTokensReached")
    assert 0 < seen["predicted"] <= 24


def test_an_answer_can_be_cancelled(seen: dict[str, Any]) -> None:
    assert seen["cancelled"] == "userStopped"


def test_completion_structure_and_tools(seen: dict[str, Any]) -> None:
    assert "5" in seen["completed"]
    assert isinstance(seen["parsed"]["name"], str)
    assert seen["rounds"] == 1


def test_tokens_and_template(seen: dict[str, Any]) -> None:
    assert seen["tokens"] == seen["counted"] > 1
    assert seen["context"] == seen["load_config"] == 1024
    assert seen["template"].startswith("<|im_start|>system\nYou answer in one sentence.")
    assert seen["template"].endswith("<|im_start|>assistant\n")


def test_models_are_listed_unloaded_and_loaded(seen: dict[str, Any]) -> None:
    assert seen["info"] == "smollm2"
    assert seen["loaded"] == seen["downloaded"] == ["smollm2"]
    assert seen["after_unload"] == 0
    assert seen["loaded_again"] == "smollm2"


def test_errors_are_the_packages_own(seen: dict[str, Any]) -> None:
    assert seen["unknown"] == "LMStudioModelNotFoundError"
    assert seen["anonymous"] == "LMStudioServerError"
