"""Texts to tokens and back: real vocabularies, and small ones of each kind."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hf_folders import (
    SMOLLM2_TOKENIZER_CONFIG,
    added,
    byte_level,
    sentencepiece_tokenizer,
    smollm2_tokenizer,
    write_json,
)
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from inferflux_core.errors import InvalidRequestError, ModelLoadError
from inferflux_core.models.folder.tokenizing import HfTokenizer, load_tokenizer
from inferflux_core.testing.tokenizer_tests import TEXTS

CONTROL = ("<unk>", "<s>", "</s>", "<|im_end|>")
SPACE = "▁"
UNSPLIT = byte_level(use_regex=False)
EDGES = ("", " ", "  two  spaces ", "\n\n\t x", "a" * 300, "\x00\x7f\u0378", "\U0010fffd", "<0x41>")


def corpus() -> list[str]:
    return [*TEXTS, *Path(__file__).read_text("utf-8").splitlines()] * 2


@functools.cache
def trained(kind: str) -> dict[str, Any]:
    """The definition of a small vocabulary."""
    specials = list(CONTROL)
    trainer: trainers.Trainer
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=600, special_tokens=specials, initial_alphabet=letters, show_progress=False
        )
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Replace(" ", SPACE)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
        )
        trainer = trainers.UnigramTrainer(
            vocab_size=300,
            special_tokens=[*specials, *(f"<0x{byte:02X}>" for byte in range(256))],
            unk_token="<unk>",
            show_progress=False,
        )
    else:
        definition = sentencepiece_tokenizer(kind, 1500)
        number = len(definition["model"]["vocab"])
        entries = [*definition["added_tokens"], added(number, "<|im_end|>")]
        return definition | {"added_tokens": entries}
    tokenizer.train_from_iterator(corpus(), trainer)
    definition = json.loads(tokenizer.to_str())
    if kind == "unigram":
        definition["model"]["byte_fallback"] = True
        definition["added_tokens"] = [
            entry for entry in definition["added_tokens"] if not entry["content"].startswith("<0x")
        ]
    return definition


KINDS = ("byte-level", "llama", "mistral", "gemma", "unigram")


def size_of(definition: dict[str, Any]) -> int:
    return Tokenizer.from_str(json.dumps(definition)).get_vocab_size()


def folder_with(
    folder: Path, definition: dict[str, Any], config: dict[str, Any] | None = None
) -> Path:
    write_json(folder / "tokenizer.json", definition)
    named = {"bos_token": "<s>", "eos_token": "</s>"} if config is None else config
    write_json(folder / "tokenizer_config.json", named)
    return folder


@functools.cache
def small(kind: str) -> HfTokenizer:
    import tempfile

    definition = trained(kind)
    with tempfile.TemporaryDirectory() as folder:
        return load_tokenizer(folder_with(Path(folder), definition), size_of(definition))


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    return folder_with(folder, smollm2_tokenizer(), SMOLLM2_TOKENIZER_CONFIG)


def peer_of(folder: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


def read(tokenizer: HfTokenizer, token_ids: list[int]) -> bytes:
    return b"".join(map(tokenizer.piece, token_ids))


# ------------------------------------------------------------------------------ texts


def test_a_real_vocabulary_makes_the_tokens_that_transformers_makes(smollm2: Path) -> None:
    tokenizer, peer = load_tokenizer(smollm2, 49152), peer_of(smollm2)
    for text in (*TEXTS, *EDGES, "<|im_start|>user\nHi<|im_end|>\n"):
        for add in (True, False):
            mine = tokenizer.encode(text, add_special=add, parse_special=True)
            assert mine == peer.encode(text, add_special_tokens=add), text


def test_every_token_of_a_real_vocabulary_spells_what_transformers_decodes(smollm2: Path) -> None:
    tokenizer, peer = load_tokenizer(smollm2, 49152), peer_of(smollm2)
    assert tokenizer.piece(1) == b""
    ids = range(17, 49152)
    expected = peer.backend_tokenizer.decode_batch([[number] for number in ids])
    assert [tokenizer.piece(number).decode("utf-8", "replace") for number in ids] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_small_vocabularies_make_the_tokens_that_the_library_makes(
    kind: str, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, trained(kind))
    peer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in (*TEXTS, *EDGES, "<s>one</s>two<|im_end|>", "a<s> <unk> b"):
        for add in (True, False):
            mine = small(kind).encode(text, add_special=add, parse_special=True)
            assert mine == peer.encode(text, add_special_tokens=add).ids, text


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    parts=st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.sampled_from(CONTROL)
        )
    )
)
def test_pieces_are_the_text_and_no_text_is_a_control_token(kind: str, parts: list[str]) -> None:
    tokenizer, text = small(kind), "".join(parts)
    token_ids = tokenizer.encode(text, add_special=False, parse_special=False)
    assert all(map(tokenizer.piece, token_ids))
    # U+2581 is how such vocabularies write a space.
    plain = text if kind == "byte-level" else text.replace(SPACE, " ")
    assert read(tokenizer, token_ids).decode() in (plain, f" {plain}")


def test_a_model_that_takes_whole_words_does_not_take_a_control_token(tmp_path: Path) -> None:
    definition = trained("byte-level")
    whole = definition | {"model": definition["model"] | {"ignore_merges": True}}
    tokenizer = load_tokenizer(folder_with(tmp_path, whole), size_of(whole))
    for text in ("</s>", "x </s>", "<|im_end|>"):
        token_ids = tokenizer.encode(text, add_special=False, parse_special=False)
        assert read(tokenizer, token_ids).decode() == text


def test_merges_cannot_make_a_control_token_of_text(tmp_path: Path) -> None:
    model = trained("byte-level")["model"]
    vocab = model["vocab"] | {"</": 9000, "s>": 9001}
    merges = [["<", "/"], ["s", ">"], ["</", "s>"], *model["merges"]]
    model = model | {"vocab": vocab, "merges": merges}
    definition = trained("byte-level") | {"model": model, "pre_tokenizer": UNSPLIT}
    tokenizer = load_tokenizer(folder_with(tmp_path, definition), 9002)
    assert tokenizer.encode("</s>", add_special=False, parse_special=True) == [vocab["</s>"]]
    assert tokenizer.encode("</s>", add_special=False, parse_special=False) == [9000, 9001]


def test_threads_do_not_change_how_others_read_a_text() -> None:
    tokenizer, text = small("byte-level"), "<s>some text</s>" * 20
    expected = {
        parse: tokenizer.encode(text, add_special=True, parse_special=parse)
        for parse in (True, False)
    }
    differing: list[object] = []

    def tokenize(parse: bool) -> None:
        for _ in range(100):
            found = tokenizer.encode(text, add_special=True, parse_special=parse)
            if found != expected[parse]:
                differing.append(found)

    threads = [threading.Thread(target=tokenize, args=(parse,)) for parse in (True, False) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert expected[True] != expected[False]
    assert not differing


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="cannot be tokenized"):
        small("byte-level").encode("a\ud800", add_special=False, parse_special=False)


def test_what_the_file_says_of_lengths_changes_no_prompt(tmp_path: Path) -> None:
    cut = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    definition = trained("llama") | {"truncation": cut}
    tokenizer = load_tokenizer(folder_with(tmp_path, definition), size_of(definition))
    text = "one two three four five six"
    expected = small("llama").encode(text, add_special=True, parse_special=True)
    assert tokenizer.encode(text, add_special=True, parse_special=True) == expected
    assert len(expected) > 4


# ------------------------------------------------------------------------------ special tokens


@pytest.mark.parametrize(
    ("config", "around"),
    [
        ({}, ([1], [])),
        ({"add_bos_token": True, "add_eos_token": True}, ([1], [2])),
        ({"add_bos_token": False}, ([], [])),
        ({"add_bos_token": None, "add_eos_token": None}, ([1], [])),
    ],
)
def test_texts_are_begun_and_ended_as_the_folder_says(
    config: dict[str, Any], around: tuple[list[int], list[int]], tmp_path: Path
) -> None:
    definition = trained("llama")
    named = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, **config}
    tokenizer = load_tokenizer(folder_with(tmp_path, definition, named), size_of(definition))
    inner = tokenizer.encode("text", add_special=False, parse_special=True)
    before, after = around
    assert tokenizer.encode("text", add_special=True, parse_special=True) == [
        *before,
        *inner,
        *after,
    ]


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({}, {2, "<|im_end|>"}),
        ({"generation_config": {"eos_token_id": 7}}, {2, 7, "<|im_end|>"}),
        ({"generation_config": {"eos_token_id": [7, 8]}}, {2, 7, 8, "<|im_end|>"}),
        ({"config": {"eos_token_id": 9}}, {2, 9, "<|im_end|>"}),
        ({"config": {"text_config": {"eos_token_id": [9]}}}, {2, 9, "<|im_end|>"}),
    ],
)
def test_answers_end_at_all_tokens_that_some_file_names(
    files: dict[str, Any], ends: set[int | str], tmp_path: Path
) -> None:
    definition = trained("llama")
    folder = folder_with(tmp_path, definition)
    for name, content in files.items():
        write_json(folder / f"{name}.json", content)
    tokenizer = load_tokenizer(folder, size_of(definition))
    assert tokenizer.eos_text == "</s>"
    (turn,) = tokenizer.encode("<|im_end|>", add_special=False, parse_special=True)
    assert tokenizer.end_of_generation_ids == {turn if e == "<|im_end|>" else e for e in ends}


def test_an_ordinary_token_ends_no_answer_by_its_name_alone(tmp_path: Path) -> None:
    """Gemma's `</s>` ends text that is struck through."""
    definition = trained("byte-level")
    entries = [
        entry | {"special": entry["content"] != "</s>"} for entry in definition["added_tokens"]
    ]
    folder = folder_with(
        tmp_path, definition | {"added_tokens": entries}, {"eos_token": "<|im_end|>"}
    )
    tokenizer = load_tokenizer(folder, size_of(definition))
    assert tokenizer.end_of_generation_ids == {3}
    assert tokenizer.piece(2) == b"</s>"
    assert tokenizer.encode("</s>", add_special=False, parse_special=False) == [2]


@pytest.mark.parametrize(
    "config",
    [
        {"extra_special_tokens": {"tool": "<tool>"}},
        {"additional_special_tokens": ["<tool>"]},
        {"added_tokens_decoder": {"9": {"content": "<tool>", "special": True}}},
    ],
)
def test_tokens_that_any_file_calls_special_are_control_tokens(
    config: dict[str, Any], tmp_path: Path
) -> None:
    definition = trained("byte-level")
    number = size_of(definition)
    entries = [*definition["added_tokens"], added(number, "<tool>", special=False)]
    definition = definition | {"added_tokens": entries}
    ordinary = load_tokenizer(folder_with(tmp_path, definition), number + 1)
    assert ordinary.encode("<tool>", add_special=False, parse_special=False) == [number]
    assert ordinary.piece(number) == b"<tool>"
    named = {"eos_token": "</s>", **config}
    special = load_tokenizer(folder_with(tmp_path, definition, named), number + 1)
    assert number not in special.encode("<tool>", add_special=False, parse_special=False)
    assert special.encode("<tool>", add_special=False, parse_special=True) == [number]
    assert special.piece(number) == b""


def test_models_with_rows_to_spare_have_pieces_for_them(tmp_path: Path) -> None:
    definition = trained("byte-level")
    tokenizer = load_tokenizer(folder_with(tmp_path, definition), size_of(definition) + 64)
    assert tokenizer.vocab_size == size_of(definition) + 64
    assert tokenizer.piece(tokenizer.vocab_size - 1) == b""


def test_tokens_that_the_model_has_no_row_for_are_read_as_text(tmp_path: Path) -> None:
    definition = trained("byte-level")
    size = size_of(definition)
    entries = [*definition["added_tokens"], added(size, "<image>")]
    folder = folder_with(tmp_path, definition | {"added_tokens": entries})
    tokenizer = load_tokenizer(folder, size)
    token_ids = tokenizer.encode("an <image>", add_special=False, parse_special=True)
    assert read(tokenizer, token_ids) == b"an <image>"


# ------------------------------------------------------------------------------ templates


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, None),
        ({"tokenizer_config.json": {"chat_template": "one"}}, "one"),
        (
            {
                "tokenizer_config.json": {
                    "chat_template": [
                        {"name": "tool_use", "template": "tools"},
                        {"name": "default", "template": "two"},
                    ]
                }
            },
            "two",
        ),
        ({"chat_template.json": {"chat_template": "three"}}, "three"),
        (
            {"chat_template.jinja": "four", "tokenizer_config.json": {"chat_template": "one"}},
            "four",
        ),
    ],
)
def test_chat_templates_are_found_wherever_they_are(
    files: dict[str, Any], template: str | None, tmp_path: Path
) -> None:
    definition = trained("byte-level")
    folder = folder_with(tmp_path, definition)
    for name, content in files.items():
        if isinstance(content, str):
            (folder / name).write_text(content)
        else:
            write_json(folder / name, {"eos_token": "</s>", **content})
    assert load_tokenizer(folder, size_of(definition)).chat_template == template


# ------------------------------------------------------------------------------ damage


def _without(definition: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key not in keys}


def _numbered_wrongly(definition: dict[str, Any]) -> dict[str, Any]:
    return definition | {"added_tokens": [*definition["added_tokens"], added(500, "<new>")]}


def _spelt_unknown(definition: dict[str, Any]) -> dict[str, Any]:
    unknown = dict.fromkeys(("pre_tokenizer", "normalizer", "decoder"))
    return definition | unknown


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", None, r"no tokenizer\.json"),
        ("tokenizer.json", "{", r"tokenizer\.json cannot be used"),
        ("tokenizer.json", "[]", r"tokenizer\.json cannot be used"),
        ("tokenizer.json", {}, r"tokenizer\.json cannot be used"),
        ("tokenizer.json", lambda d: _without(d, "model"), r"tokenizer\.json cannot be used"),
        ("tokenizer.json", lambda d: d | {"model": {"type": "BPE"}}, r"tokenizer\.json"),
        ("tokenizer.json", lambda d: d | {"added_tokens": [{"id": -1}]}, r"tokenizer\.json"),
        ("tokenizer.json", lambda d: d | {"post_processor": {"type": "Odd"}}, r"tokenizer\.json"),
        ("tokenizer.json", _numbered_wrongly, "has the number 500, and would be taken for"),
        ("tokenizer.json", _spelt_unknown, "does not know how its tokens are to be spelt"),
        ("tokenizer_config.json", "\xff", "tokenizer_config"),
        ("tokenizer_config.json", {"eos_token": "<none>"}, "'<none>' is not in the vocabulary"),
        ("tokenizer_config.json", {"eos_token": 3}, "'eos_token' names no token"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1": []}}, "must be an object"),
        ("tokenizer_config.json", {"extra_special_tokens": [[]]}, "names no token"),
        ("tokenizer_config.json", {"add_bos_token": "yes"}, "'add_bos_token'"),
        ("tokenizer_config.json", {"bos_token": "<s>"}, "nothing says at which token answers end"),
        ("generation_config.json", {"eos_token_id": "2"}, "'eos_token_id' must be"),
        ("generation_config.json", {"eos_token_id": [True]}, "'eos_token_id' must be"),
        ("generation_config.json", {"eos_token_id": 1 << 40}, "answers end at token"),
        ("chat_template.jinja", "a\0b", "NUL"),
    ],
)
def test_damaged_folders_are_refused_with_a_reason(
    file: str, content: Any, message: str, tmp_path: Path
) -> None:
    definition = trained("byte-level")
    ends_nowhere = [
        entry | {"special": False}
        for entry in definition["added_tokens"]
        if message.startswith("nothing says")
    ]
    definition = definition | {"added_tokens": ends_nowhere or definition["added_tokens"]}
    folder, size = folder_with(tmp_path, definition), size_of(definition)
    if content is None:
        (folder / file).unlink()
    elif isinstance(content, str):
        (folder / file).write_text(content, "latin-1")
    else:
        write_json(folder / file, content(definition) if callable(content) else content)
    with pytest.raises(ModelLoadError, match=message):
        load_tokenizer(folder, size)


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, trained("byte-level"))
    with pytest.raises(ModelLoadError, match="the model has 300 tokens"):
        load_tokenizer(folder, 300)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 33) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_part_may_be_damaged(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    definition = json.loads(json.dumps(trained("unigram")))
    part: Any = definition
    for _ in range(data.draw(st.integers(1, 3))):
        keys = sorted(part) if isinstance(part, dict) else range(len(part))
        key: Any = data.draw(st.sampled_from(list(keys)))
        if not isinstance(part[key], (dict, list)) or not part[key]:
            break
        part, parent, last = part[key], part, key
        parent[last] = part
    if isinstance(part, dict):
        part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    else:
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(JSON)
    folder = folder_with(tmp_path_factory.mktemp("damaged"), definition)
    try:
        tokenizer = load_tokenizer(folder, 600)
        tokenizer.encode("any text <s>", add_special=True, parse_special=False)
    except (ModelLoadError, InvalidRequestError):
        pass
    finally:
        shutil.rmtree(folder)


def test_two_texts_are_framed_as_the_library_frames_them(tmp_path: Path) -> None:
    definition = trained("byte-level")
    framed = Tokenizer.from_str(json.dumps(definition))
    framed.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> <|im_end|> $B </s>",
        special_tokens=[(name, framed.token_to_id(name)) for name in CONTROL[1:]],
    )
    definition = json.loads(framed.to_str())
    tokenizer = load_tokenizer(folder_with(tmp_path, definition), size_of(definition))
    assert tokenizer.encode_pair("who?", "it was me") == framed.encode("who?", "it was me").ids
    spelt = tokenizer.encode_pair("</s>", "<|im_end|>")
    assert tokenizer.pair_frame is not None
    assert spelt.count(tokenizer.pair_frame.between[-1]) == 1


def test_texts_with_nothing_between_them_are_no_pair() -> None:
    assert small("byte-level").pair_frame is None


def test_models_that_never_answer_need_no_end(tmp_path: Path) -> None:
    definition = trained("byte-level") | {"added_tokens": []}
    folder = folder_with(tmp_path, definition, {})
    tokenizer = load_tokenizer(folder, size_of(definition), generates=False)
    assert tokenizer.end_of_generation_ids == frozenset()
    assert tokenizer.eos_text == ""
