"""What folders with safetensors say about themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.hf_folders import tiny_folder, write_json

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.header import read_folder_header
from inferflux_core.models.folder.layout import weight_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "tiny", "LlamaForCausalLM", dtype="BF16", model_type="llama")


def test_it_is_told_in_the_words_of_gguf(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    header = read_folder_header(folder)
    assert header.metadata == {
        "general.architecture": "llama",
        "general.file_type": 32,
        "llama.block_count": 2,
        "llama.context_length": 512,
        "llama.embedding_length": 64,
        "tokenizer.chat_template": "{{ messages }}",
    }
    embeddings = 2 * 2048 * 64
    layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96 + 2 * 64
    assert header.num_parameters == embeddings + 2 * layer + 64


def test_weights_that_are_there_twice_count_once(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes(b"the same in another order")
    assert weight_files(folder) == [folder / "model.safetensors"]
    assert read_folder_header(folder).num_parameters > 0


def test_models_that_only_embed_see_a_whole_text_at_once(folder: Path) -> None:
    write_json(folder / "config.json", {"model_type": "bert", "architectures": ["BertModel"]})
    assert read_folder_header(folder).metadata["bert.attention.causal"] is False


def test_models_of_several_parts_are_described_by_their_text_part(folder: Path) -> None:
    write_json(
        folder / "config.json",
        {"model_type": "gemma3", "text_config": {"hidden_size": 8, "max_position_embeddings": 9}},
    )
    metadata = read_folder_header(folder).metadata
    assert (metadata["gemma3.embedding_length"], metadata["gemma3.context_length"]) == (8, 9)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (4).to_bytes(8, "little") + b"[{}]",
        (2).to_bytes(8, "little") + b"{",
        (20).to_bytes(8, "little") + b'{"a": {"shape": -1}}',
        (16).to_bytes(8, "little") + b'{"a": "tensor" }',
    ],
)
def test_damaged_weights_are_refused(folder: Path, data: bytes) -> None:
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelLoadError, match=r"model\.safetensors"):
        read_folder_header(folder)


@pytest.mark.parametrize(
    "config", [[], {"model_type": 3}, {"hidden_size": "8"}, {"text_config": []}]
)
def test_damaged_configurations_are_refused(folder: Path, config: Any) -> None:
    write_json(folder / "config.json", config)
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        read_folder_header(folder)
