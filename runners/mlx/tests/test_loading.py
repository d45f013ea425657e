"""What is refused, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from support.mlx_folders import ATTENTION, mlx_folder

import inferflux_runner_mlx
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.errors import ModelLoadError
from inferflux_runner_mlx import loading
from inferflux_runner_mlx.runner import MlxRunner

SMALL = RuntimeConfig(max_num_seqs=2, max_model_len=32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mlx_folder(tmp_path / "model", ATTENTION)


def load(folder: Path, runtime: RuntimeConfig = SMALL) -> MlxRunner:
    return inferflux_runner_mlx.load(ModelConfig(path=str(folder)), runtime, on_cpu=True)


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def test_a_sound_folder_loads(folder: Path) -> None:
    details = load(folder).capabilities.details
    assert details["architecture"] == "llama"
    assert details["quantization"] == "F32"


def test_unknown_families_are_named_with_those_that_are_known(folder: Path) -> None:
    configure(folder, model_type="llama9")
    with pytest.raises(ModelLoadError, match="no family 'llama9'") as caught:
        load(folder)
    known = (caught.value.hint or "").removeprefix("it has ").split(", ")
    assert {"llama", "qwen3", "gemma3_text", "phi3", "mistral"} <= set(known)
    assert not {"base", "cache", "rope_utils"} & set(known)


def test_code_of_the_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "it ran"
    (folder / "custom.py").write_text(f"open({str(proof)!r}, 'w')")
    configure(folder, model_file="custom.py")
    with pytest.raises(ModelLoadError, match="code of its own"):
        load(folder)
    assert not proof.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": 5},
        {"model_type": "../llama"},
        {"model_type": "base"},
        {"model_type": ...},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": "2"},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": ...},
        {"hidden_size": 0},
        {"hidden_size": -64},
        {"hidden_size": 32},
        {"hidden_size": 10**12},
        {"hidden_size": "wide"},
        {"vocab_size": 2**40},
        {"vocab_size": 100},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"num_key_value_heads": 4},
        {"rms_norm_eps": "small"},
        {"rope_theta": "x"},
        {"rope_scaling": {"type": "none of those"}},
        {"rope_scaling": 7},
        {"max_position_embeddings": 0},
        {"max_position_embeddings": 10**30},
        {"tie_word_embeddings": True, "vocab_size": 7},
        {"quantization": {"bits": 99, "group_size": 64}},
        {"quantization": {"bits": 4}},
        {"quantization": "int8"},
        {"quantization_config": {"quant_method": "unheard of", "bits": "four"}},
        {"text_config": "nested"},
    ],
    ids=str,
)
def test_configurations_that_lie_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    configure(folder, **changes)
    with pytest.raises(ModelLoadError) as caught:
        load(folder)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.json", None, "config.json"),
        ("config.json", b"[]", "config.json"),
        ("config.json", b"{", "config.json"),
        ("model.safetensors", None, "model.safetensors"),
        ("model.safetensors", b"", "has 0 bytes"),
        ("model.safetensors", b"\xff" * 64, "no safetensors file"),
        ("tokenizer.json", None, "tokenizer.json"),
        ("tokenizer.json", b"{}", "tokenizer.json"),
    ],
)
def test_damaged_files_are_named(
    folder: Path, name: str, content: bytes | None, problem: str
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ModelLoadError, match=problem):
        load(folder)


@pytest.mark.parametrize("cut", [1, 1000, 100_000])
def test_weights_that_are_cut_off_are_refused(folder: Path, cut: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(ModelLoadError, match=r"model\.safetensors"):
        load(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    weights = mx.load(str(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    shard = "model-00001-of-00002.safetensors"
    mx.save_safetensors(str(folder / shard), weights)
    with pytest.raises(ModelLoadError, match="1 shards of 2"):
        load(folder)
    (folder / shard).rename(folder / "model-00001-of-00001.safetensors")
    load(folder)


def test_weights_that_do_not_belong_are_refused(folder: Path) -> None:
    file = str(folder / "model.safetensors")
    mx.save_safetensors(file, dict(mx.load(file)) | {"model.extra": mx.zeros(3)})
    with pytest.raises(ModelLoadError, match="mlx-lm cannot load it"):
        load(folder)


def test_too_little_memory_is_refused_with_the_figures(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "available_memory", lambda: 2**20)
    with pytest.raises(ModelLoadError, match="has 1 MiB of weights and only 1 MiB"):
        load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weights", "q8_0"),
        ("kv_cache_type", "f16"),
        ("flash_attention", "off"),
        ("kv_layout", "unified"),
        ("threads", 2),
        ("mps_layers", 12),
    ],
)
def test_options_of_llama_cpp_are_refused(folder: Path, key: str, value: Any) -> None:
    with pytest.raises(ModelLoadError, match=f"runtime.{key} is {value!r}"):
        load(folder, RuntimeConfig(**{key: value}))


def test_a_model_that_does_not_say_how_long_is_asked_about(folder: Path) -> None:
    configure(folder, max_position_embeddings=...)
    with pytest.raises(ModelLoadError, match="does not say how long") as caught:
        load(folder, RuntimeConfig())
    assert caught.value.hint == "set `runtime.max_model_len`"
    assert load(folder).capabilities.max_model_len == 32


def test_more_than_the_model_was_trained_for_is_refused(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="trained for 512 tokens"):
        load(folder, RuntimeConfig(max_model_len=513))


def test_without_a_gpu_it_does_not_fall_back(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="MLX finds no Metal GPU"):
        inferflux_runner_mlx.load(ModelConfig(path=str(folder)), SMALL)


def test_states_belong_to_a_model(folder: Path, tmp_path: Path) -> None:
    first = load(folder).capabilities.state_fingerprint
    assert load(folder).capabilities.state_fingerprint == first
    other = mlx_folder(tmp_path / "other", ATTENTION, bits=4)
    assert load(other).capabilities.state_fingerprint != first
