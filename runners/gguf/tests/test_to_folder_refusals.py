"""What no folder could say as well is refused, with the reason; and damaged files are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from support.gguf_files import rewritten
from support.hf_folders import (
    TINY_VOCAB,
    sentencepiece_tokenizer,
    tiny_folder,
    write_json,
)

from inferflux_core.errors import ModelLoadError
from inferflux_gguf import to_folder, to_gguf


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model with a byte-level tokenizer."""
    return _made(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with SentencePiece's."""
    place = tmp_path_factory.mktemp("sentencepiece")
    return _made(place, sentencepiece_tokenizer("gemma"))


def _made(place: Path, tokenizer: dict[str, Any] | None = None) -> Path:
    vocab = len(tokenizer["model"]["vocab"]) if tokenizer else TINY_VOCAB
    folder = tiny_folder(place / "hf", "LlamaForCausalLM", vocab_size=vocab)
    if tokenizer:
        write_json(folder / "tokenizer.json", tokenizer)
        write_json(folder / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    to_gguf.convert(folder, place / "m.gguf", lambda share: None)
    return place / "m.gguf"


def refusal(path: Path, target: Path, dtype: str = "bf16") -> str:
    target.mkdir()
    with pytest.raises(ModelLoadError) as caught:
        to_folder.convert(path, target, dtype, lambda share: None)
    assert caught.value.hint
    return caught.value.message


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": (
        {"general.architecture": "mamba", "mamba.block_count": 1, "mamba.embedding_length": 1}
        | {"mamba.context_length": 8},
        "architecture 'mamba'",
    ),
    "setting": ({"llama.attention.scale": 2.0}, "llama.attention.scale is a setting"),
    "experts": ({"llama.expert_count": 8}, "mixture of experts"),
    "embeds": ({"llama.attention.causal": False}, "only embeds"),
    "layers": ({"llama.block_count": 3}, "tensor 'blk.2.attn_norm.weight' is missing"),
    "width": ({"llama.embedding_length": 32, "llama.attention.key_length": 16}, "has the shape"),
    "heads": ({"llama.attention.head_count": 3}, "cannot share"),
    "values": ({"llama.attention.value_length": 8}, "different sizes"),
    "epsilon": ({"llama.attention.layer_norm_rms_epsilon": None}, "epsilon' is missing"),
    "part": ({"llama.rope.dimension_count": 8}, "only a part of each head"),
    "positions": ({"llama.rope.scaling.type": "longrope"}, "'longrope' with no divisors"),
    "attention": ({"llama.rope.scaling.attn_factor": 1.5}, "attn_factor"),
    "factor": ({"llama.rope.scaling.type": "linear"}, "factor' is missing"),
    "no number": ({"llama.rope.freq_base": float("nan")}, "finite number"),
    "tokenizer": ({"tokenizer.ggml.model": "bert"}, "of the kind 'bert'"),
    "cut": ({"tokenizer.ggml.pre": "viking"}, "called 'viking'"),
    "no tokens": ({"tokenizer.ggml.tokens": None}, "it has 0 tokens"),
    "types": ({"tokenizer.ggml.token_type": [1] * 9}, "the types of 9"),
    "type": ({"tokenizer.ggml.token_type": [9] * TINY_VOCAB}, "unknown type"),
    "merge": ({"tokenizer.ggml.merges": ["Ġ zzz"]}, "'Ġ' and 'zzz' is no token"),
    "merges": ({"tokenizer.ggml.merges": [1, 2]}, "must be an array of strings"),
    "no array": ({"tokenizer.ggml.merges": "Ġ t"}, "must be an array"),
    "end": ({"tokenizer.ggml.eos_token_id": 1 << 20}, "token 'eos' is 1048576"),
    "beginning": (
        {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None},
        "bos_token_id' misses",
    ),
    "twice": ({"tokenizer.ggml.tokens": ["a"] * TINY_VOCAB}, "the same text"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_what_a_folder_cannot_say_is_refused(name: str, llama: Path, tmp_path: Path) -> None:
    fields, reason = FIELDS[name]
    path = rewritten(llama, tmp_path / "m.gguf", fields)
    assert reason in refusal(path, tmp_path / "folder")


TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "no embeddings": ({"token_embd.weight": None}, "no embeddings"),
    "missing": ({"blk.1.ffn_up.weight": None}, "'blk.1.ffn_up.weight' is missing"),
    "foreign": ({"blk.0.attn_sub_norm.weight": np.ones(64, np.float32)}, "none of an ordinary"),
    "shape": ({"output_norm.weight": np.ones(32, np.float32)}, "has the shape [32]"),
    "numbers": ({"output_norm.weight": np.full(64, np.nan, np.float32)}, "infinite or none"),
    "divisors": ({"rope_freqs.weight": np.full(8, 2.0, np.float32)}, "in an unknown way"),
    "few divisors": ({"rope_freqs.weight": np.array([1, 2, 8], np.float32)}, "in an unknown way"),
    "Phi's divisors": (
        {f"rope_factors_{which}.weight": np.ones(8, np.float32) for which in ("long", "short")},
        "rope_factors_long.weight, rope_factors_short.weight",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_of_another_model_are_refused(name: str, llama: Path, tmp_path: Path) -> None:
    tensors, reason = TENSORS[name]
    path = rewritten(llama, tmp_path / "m.gguf", tensors=tensors)
    assert reason in refusal(path, tmp_path / "folder")


def test_numbers_that_a_type_cannot_hold_are_refused(llama: Path, tmp_path: Path) -> None:
    large = {"output_norm.weight": np.full(64, 1e30, np.float32)}
    path = rewritten(llama, tmp_path / "m.gguf", tensors=large)
    assert "too large for f16" in refusal(path, tmp_path / "f16", "f16")
    (tmp_path / "bf16").mkdir()
    to_folder.convert(path, tmp_path / "bf16", "bf16", lambda share: None)


def test_weights_that_the_library_cannot_expand_are_refused(llama: Path, tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q8_1
    numbers = np.zeros((64, 96 // 32 * gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
    path = tmp_path / "m.gguf"
    source = rewritten(llama, path, tensors={"blk.0.ffn_down.weight": (numbers, kind)})
    assert "Q8_1, which cannot be expanded" in refusal(source, tmp_path / "folder")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tokenizer.ggml.scores": None}, "no scores"),
        ({"tokenizer.ggml.scores": [1, 2]}, "no scores"),
        ({"tokenizer.ggml.scores": [0.5, 0.25]}, "no scores"),
    ],
)
def test_a_sentencepiece_without_scores_is_refused(
    fields: dict[str, Any], reason: str, sentencepiece: Path, tmp_path: Path
) -> None:
    path = rewritten(sentencepiece, tmp_path / "m.gguf", fields)
    assert reason in refusal(path, tmp_path / "folder")


def test_a_sentencepiece_without_bytes_is_refused(sentencepiece: Path, tmp_path: Path) -> None:
    tokens = gguf.GGUFReader(sentencepiece).fields["tokenizer.ggml.tokens"].contents()
    tokens[tokens.index("<0x41>")] = "<another>"
    path = rewritten(sentencepiece, tmp_path / "m.gguf", {"tokenizer.ggml.tokens": tokens})
    assert "no token '<0x41>' for a byte" in refusal(path, tmp_path / "folder")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(share: float, llama: Path, tmp_path: Path) -> None:
    content = llama.read_bytes()
    (tmp_path / "m.gguf").write_bytes(content[: int(share * len(content))])
    assert re.search("truncated|cannot hold", refusal(tmp_path / "m.gguf", tmp_path / "folder"))


def test_strings_that_are_no_unicode_are_refused(llama: Path, tmp_path: Path) -> None:
    content = llama.read_bytes()
    assert content.count("Ġthe".encode()) > 1
    (tmp_path / "m.gguf").write_bytes(content.replace("Ġthe".encode(), b"\xff\xfethe"))
    assert "is not valid UTF-8" in refusal(tmp_path / "m.gguf", tmp_path / "folder")
