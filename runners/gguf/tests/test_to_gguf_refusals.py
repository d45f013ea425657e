"""Folders that cannot be converted are refused, whatever is wrong with them, and never with another error."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hf_folders import (
    TINY_VOCAB,
    added,
    sentencepiece_tokenizer,
    tiny_config,
    tiny_folder,
    tiny_tokenizer,
    tiny_weights,
    write_json,
    write_safetensors,
)

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.checkpoint import read_checkpoint
from inferflux_core.models.folder.safetensors_file import read_header
from inferflux_gguf.to_gguf import convert

Change = Callable[[Path], None]


def refuse(folder: Path, match: str | None = None) -> ModelLoadError:
    with pytest.raises(ModelLoadError, match=match) as caught:
        convert(folder, folder / "m.gguf", lambda share: None)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path, "LlamaForCausalLM")


def test_unknown_architectures_are_named_and_the_known_ones_too(folder: Path) -> None:
    write_json(folder / "config.json", tiny_config("MambaForCausalLM"))
    error = refuse(folder, "MambaForCausalLM")
    assert error.hint
    assert "LlamaForCausalLM" in error.hint
    assert "Gemma3ForCausalLM" in error.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": None},
        {"architectures": "LlamaForCausalLM"},
        {"architectures": ["LlamaForCausalLM", "Qwen2ForCausalLM"]},
        {"architectures": [["LlamaForCausalLM"]]},
        {"auto_map": {"AutoModelForCausalLM": "evil.Model"}},
        {"quantization_config": {"quant_method": "gptq"}},
        {"hidden_act": "relu"},
        {"partial_rotary_factor": 0.5},
        {"is_causal": False},
        {"hidden_size": None},
        {"hidden_size": 128},
        {"hidden_size": 64.0},
        {"hidden_size": True},
        {"hidden_size": -64},
        {"hidden_size": 10**4000},
        {"intermediate_size": 10**12},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 10**9},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"num_attention_heads": 8},
        {"num_key_value_heads": 3},
        {"num_key_value_heads": 4},
        {"head_dim": 15},
        {"head_dim": 32},
        {"vocab_size": 2**20},
        {"vocab_size": 2**60},
        {"vocab_size": 100},
        {"max_position_embeddings": "many"},
        {"rms_norm_eps": 0},
        {"rms_norm_eps": float("nan")},
        {"rms_norm_eps": 10**400},
        {"rope_theta": float("inf")},
        {"rope_theta": [10000]},
        {"rope_scaling": {"rope_type": "longrope", "factor": 4}},
        {"rope_scaling": {"type": "linear"}},
        {"rope_scaling": {"rope_type": "linear", "factor": -1}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4, "mscale": 1}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8}},
        {"rope_scaling": "linear"},
        {"tie_word_embeddings": "yes"},
        {"attention_bias": True},
        {"eos_token_id": TINY_VOCAB, "bos_token_id": 1},
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
def test_configs_that_lie_or_ask_for_something_else(folder: Path, changes: dict[str, Any]) -> None:
    (folder / "tokenizer_config.json").unlink()
    text = json.dumps(tiny_config("LlamaForCausalLM") | changes)
    (folder / "config.json").write_text(text)
    refuse(folder)


def tokenizer_with(**changes: Any) -> Change:
    return lambda folder: write_json(folder / "tokenizer.json", tiny_tokenizer() | changes)


def model_with(**changes: Any) -> Change:
    return tokenizer_with(model=tiny_tokenizer()["model"] | changes)


VOCAB = tiny_tokenizer()["model"]["vocab"]
LAST = TINY_VOCAB - 1
SHORTER = {token: id_ for token, id_ in VOCAB.items() if id_ < LAST - 1}
MERGES = tiny_tokenizer()["model"]["merges"]


def processing(*pieces: dict[str, Any]) -> Change:
    return tokenizer_with(post_processor={"type": "TemplateProcessing", "single": list(pieces)})


TEXT = {"Sequence": {"id": "A", "type_id": 0}}


def special(text: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": text, "type_id": 0}}


def sentencepiece_without_a_byte(folder: Path) -> None:
    tokenizer = sentencepiece_tokenizer(size=800)
    vocab = dict(tokenizer["model"]["vocab"])
    vocab["instead"] = vocab.pop("<0x0A>")
    write_json(
        folder / "tokenizer.json", tokenizer | {"model": tokenizer["model"] | {"vocab": vocab}}
    )


TOKENIZERS: dict[str, Change] = {
    "missing": lambda folder: (folder / "tokenizer.json").unlink(),
    "unigram": model_with(type="Unigram"),
    "wordpiece": model_with(type="WordPiece"),
    "no model": tokenizer_with(model=None),
    "bytes of another kind": model_with(byte_fallback=True),
    "unknown spaces": lambda folder: write_json(
        folder / "tokenizer.json", sentencepiece_tokenizer(size=800) | {"normalizer": None}
    ),
    "unknown normalizer": tokenizer_with(normalizer={"type": "Lowercase"}),
    "dropout": model_with(dropout=0.1),
    "suffix": model_with(end_of_word_suffix="</w>"),
    "truncation": tokenizer_with(truncation={"max_length": 5}),
    "ignore_merges": model_with(ignore_merges=True),
    "no merges": model_with(merges=[]),
    "merge of unknown": model_with(merges=[*MERGES, "q q"]),
    "merge of three": model_with(merges=[*MERGES, "a b c"]),
    "merge of nothing": model_with(merges=[*MERGES, ["a", ""]]),
    "merge of numbers": model_with(merges=[*MERGES, [1, 2]]),
    "merge twice": model_with(merges=[*MERGES, MERGES[0]]),
    "vocab is a list": model_with(vocab=["a"]),
    "number beyond": model_with(vocab=VOCAB | {"beyond": TINY_VOCAB}),
    "number negative": model_with(vocab=VOCAB | {"x": -1}),
    "number is text": model_with(vocab=VOCAB | {"x": "1"}),
    "number twice": model_with(vocab=VOCAB | {"twice": 5}),
    "empty token": model_with(vocab=SHORTER | {"": LAST}),
    "token with NUL": model_with(vocab=SHORTER | {"a\0b": LAST}),
    "filler": model_with(vocab=SHORTER | {f"[PAD{LAST - 1}]": LAST}),
    "same text": tokenizer_with(
        model=tiny_tokenizer()["model"] | {"vocab": SHORTER | {"▁": LAST - 1}},
        added_tokens=[added(LAST, "▁")],
    ),
    "added beyond": tokenizer_with(added_tokens=[added(5000, "x", special=False)]),
    "added elsewhere": tokenizer_with(added_tokens=[added(3, "the")]),
    "added strips": tokenizer_with(added_tokens=[added(0, "<|endoftext|>") | {"lstrip": True}]),
    "added is text": tokenizer_with(added_tokens=["<s>"]),
    "post processor": tokenizer_with(post_processor={"type": "BertProcessing"}),
    "two before": processing(special("<|im_start|>"), special("<|im_end|>"), TEXT),
    "another begins": processing(special("<repo_name>"), TEXT),
    "another ends": processing(TEXT, special("<repo_name>")),
    "no text": processing(special("<|im_start|>")),
    "unknown begins": processing(special("<begin>"), TEXT),
    "no byte": sentencepiece_without_a_byte,
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_that_llama_cpp_would_not_follow(folder: Path, name: str) -> None:
    TOKENIZERS[name](folder)
    refuse(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b""),
        ("config.json", b"[]"),
        ("config.json", b"{" * 100_000),
        ("config.json", b"[" * 100_000),
        ("config.json", b'{"a": 1, "a": 2}'),
        ("config.json", b"\xff\xfe{}"),
        ("tokenizer.json", b"null"),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {"\\ud800": 0}, "merges": []}}'),
        ("tokenizer_config.json", b"no"),
        ("tokenizer_config.json", b'{"eos_token": "<none>"}'),
        ("tokenizer_config.json", b'{"eos_token": 5}'),
        ("tokenizer_config.json", b'{"chat_template": 5}'),
        ("tokenizer_config.json", b'{"chat_template": [{"name": "rag", "template": "x"}]}'),
        ("generation_config.json", b'{"eos_token_id": ["2"]}'),
        ("generation_config.json", b'{"eos_token_id": [2, 3, 4, 5, 6]}'),
        ("chat_template.jinja", b"\xff"),
        ("chat_template.jinja", b"a\0b"),
        ("model.safetensors.index.json", b'{"weight_map": {}}'),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../model.safetensors"}}'),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "/etc/passwd"}}'),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 5}}'),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "x\\u0000.safetensors"}}'),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "model.bin"}}'),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "gone.safetensors"}}'),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "model.safetensors"}}'),
    ],
)
def test_files_that_are_damaged(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    refuse(folder)


def test_what_is_no_folder_or_has_no_room(folder: Path) -> None:
    for source in (folder / "config.json", folder / "none"):
        with pytest.raises(ModelLoadError, match="no folder"):
            convert(source, folder / "m.gguf", lambda share: None)
    with pytest.raises(ModelLoadError, match="cannot be written"):
        convert(folder, folder / "no" / "m.gguf", lambda share: None)


def test_pickles_are_never_opened(folder: Path) -> None:
    opened = folder / "opened"
    weights = folder / "model.safetensors"
    weights.unlink()
    payload = pickle.dumps(_Touch(opened))
    (folder / "pytorch_model.bin").write_bytes(payload)
    refuse(folder, "pickle")
    for content in (payload, b"PK\x03\x04" + payload):
        weights.write_bytes(content)
        refuse(folder, "no safetensors file")
    weights.unlink()
    weights.mkdir()
    refuse(folder)
    assert not opened.exists()


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    refuse(folder)


def shards(folder: Path) -> list[Path]:
    weights = list(tiny_weights(tiny_config("LlamaForCausalLM")).items())
    (folder / "model.safetensors").unlink()
    paths = [folder / f"model-{number:05}-of-00002.safetensors" for number in (1, 2)]
    for path, part in zip(paths, (weights[:9], weights[9:]), strict=True):
        write_safetensors(path, dict(part))
    return paths


@pytest.mark.parametrize("damage", ["missing", "twice", "foreign", "empty", "short", "long"])
def test_shards_that_do_not_make_a_model(folder: Path, damage: str) -> None:
    first, second = shards(folder)
    content = second.read_bytes()
    match damage:
        case "missing":
            second.unlink()
        case "twice":
            second.write_bytes(first.read_bytes())
        case "foreign":
            first.rename(folder / "model-00001-of-00003.safetensors")
        case "empty":
            second.write_bytes(b"")
        case "short":
            second.write_bytes(content[:-1])
        case "long":
            second.write_bytes(content + b"\0")
    refuse(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("model.norm.weight"),
        lambda weights: weights.pop("lm_head.weight"),
        lambda weights: weights.update(extra=weights["model.norm.weight"]),
        lambda weights: weights.update(
            {"model.layers.0.self_attn.q_proj.bias": weights["model.norm.weight"]}
        ),
        lambda weights: weights.update(
            {"model.layers.0.mlp.up_proj.weight": weights["model.layers.0.mlp.up_proj.weight"].T}
        ),
    ],
)
def test_weights_that_are_not_the_configs(
    folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    weights = tiny_weights(tiny_config("LlamaForCausalLM"))
    change(weights)
    write_safetensors(folder / "model.safetensors", weights)
    refuse(folder, "tensor")


def test_weights_of_another_type(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"dtype": "F16"', b'"dtype": "I16"', 1))
    refuse(folder, "I16")
    path.write_bytes(content.replace(b'"dtype": "F16"', b'"dtype": "Q4K"', 1))
    refuse(folder, "Q4K")


# ---------------------------------------------------------------------- headers of safetensors


def write_file(path: Path, header: object, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(begin: Any, end: Any, shape: Any = None, dtype: Any = "F16") -> dict[str, Any]:
    shape = [(end - begin) // 2] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(0, 8), "b": entry(4, 16)},
        {"a": entry(0, 8), "b": entry(0, 8), "c": entry(8, 16)},
        {"a": entry(0, 8), "b": entry(10, 16)},
        {"a": entry(0, 8)},
        {"a": entry(0, 18)},
        {"a": entry(2, 16)},
        {"a": entry(0, 16, [7])},
        {"a": entry(0, 16, [2**40, 2**40])},
        {"a": entry(0, 16, [0])},
        {"a": entry(16, 0, [0])},
        {"a": entry(0, 16, [-8])},
        {"a": entry(-16, 0, [8])},
        {"a": entry(0, 16, [True, 8])},
        {"a": entry(0, 16, [8.0])},
        {"a": entry(0, 16, [1] * 100 + [8])},
        {"a": entry(0, 16, 8)},
        {"a": entry(0, 16, dtype=5)},
        {"a": entry(0, 16, dtype="F4")},
        {"a": {"dtype": "F16", "shape": [8]}},
        {"a": {"dtype": "F16", "shape": [8], "data_offsets": [0, 8, 16]}},
        {"a": []},
        {"a": None},
        [],
        b"",
        b"null",
        b"{",
        b"\xff\xff",
        b'{"a": {}, "a": {}}',
        b'{"a":' * 50_000,
        json.dumps({"a": entry(0, 10**4299, [1])}).encode(),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: object) -> None:
    with pytest.raises(ModelLoadError):
        read_header(write_file(tmp_path / "m.safetensors", header, bytes(16)))


@pytest.mark.parametrize("length", [0, 1, 500, 2**27, 2**63, 2**64 - 1])
def test_lengths_of_headers_that_lie(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.safetensors"
    content = write_file(path, {"a": entry(0, 16)}, bytes(16)).read_bytes()
    path.write_bytes(length.to_bytes(8, "little") + content[8:])
    with pytest.raises(ModelLoadError):
        read_header(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    header = {"__metadata__": {"format": "pt"}, "b": entry(0, 8), "a": entry(8, 16, [2, 2])}
    return write_file(tmp_path_factory.mktemp("good") / "model.safetensors", header, bytes(16))


def test_the_good_file_is_good(good: Path) -> None:
    tensors = read_checkpoint(good.parent)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"b": (4,), "a": (2, 2)}
    assert tensors["a"].words().shape == (2, 2)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_anywhere_is_refused_or_harmless(
    good: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Whatever a damaged file still says, its tensors lie within it and do not overlap."""
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        tensors = read_header(path)
    except ModelLoadError:
        return
    spans = [(tensor.offset, tensor.offset + tensor.size) for tensor in tensors]
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(spans))
    for tensor in tensors:
        assert tensor.words().size * tensor.words().itemsize == tensor.size
