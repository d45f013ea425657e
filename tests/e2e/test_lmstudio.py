"""The lmstudio package against the real model, and against one that says what it is told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.servers import running_server
from tests.e2e.conftest import MODEL, run_script


@pytest.fixture(scope="module")
def seen(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return run_client("lmstudio_sdk.py")


@pytest.fixture(scope="module")
def dictated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the package makes of answers that the prompt dictates."""
    folder = tmp_path_factory.mktemp("dictated")
    (folder / "m-Q4_K_M.gguf").touch()
    config = {
        "models": [{"name": MODEL, "path": "m-Q4_K_M.gguf"}],
        "runtime": {"backend": "scripted", "max_model_len": 2048},
    }
    with running_server(folder, config) as server:
        found = run_script("lmstudio_tools.py", server.url)
        assert server.stop() == 0, server.log.read_text()
        assert "Traceback" not in server.log.read_text(), server.log.read_text()
    return found


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


def test_act_calls_tools_until_there_is_an_answer(dictated: dict[str, Any]) -> None:
    assert dictated["called"] == ["Oslo"]
    assert dictated["roles"] == ["assistant", "tool", "assistant"]
    assert (dictated["rounds"], dictated["said"]) == (2, "It rains in Oslo.")


def test_texts_are_embedded(dictated: dict[str, Any]) -> None:
    assert dictated["vectors"] == [256, 256]


def test_a_model_that_was_unloaded_comes_back_with_progress(dictated: dict[str, Any]) -> None:
    assert dictated["load_progress"] == [0.0, 1.0]


def test_the_asynchronous_client_streams_cancels_and_asks_much_at_once(
    dictated: dict[str, Any],
) -> None:
    assert dictated["async_stream"] == "one two three"
    assert dictated["at_once"] == ["number 0", "number 1", "number 2", "number 3"]
    assert dictated["async_cancelled"] == "userStopped"


def test_an_answer_can_be_cancelled_before_it_began(dictated: dict[str, Any]) -> None:
    assert dictated["cancelled_at_once"] == "userStopped"


@pytest.mark.parametrize("case", ["preset", "empty", "image", "search"])
def test_what_is_not_done_here_is_refused_in_the_packages_words(
    dictated: dict[str, Any], case: str
) -> None:
    expected = "LMStudioPresetNotFoundError" if case == "preset" else "LMStudioServerError"

    assert dictated[case] == expected
