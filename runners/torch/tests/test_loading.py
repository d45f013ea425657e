"""What is loaded, how it is sized, and what is refused before any weight is read."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.hf_folders import tiny_config, tiny_folder, tiny_weights, write_json, write_safetensors

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import Work
from inferflux_core.errors import ModelLoadError
from inferflux_runner_torch import devices, load
from inferflux_runner_torch.ops import TorchOps
from inferflux_runner_torch.ops.linears import pack_linear
from inferflux_runner_torch.runner import TorchRunner

LLAMA = "LlamaForCausalLM"
KV_BYTES = 2 * 2 * 2 * 16 * 2
"""Of a token: keys and values, layers, heads, elements, float16."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("original"), LLAMA, dtype="BF16")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "tiny-llama")


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no kernels of ours are installed."""
    monkeypatch.setattr(devices, "_no_kernels", lambda head: "not installed")


def load_it(folder: Path, *, device: str = "cpu", **runtime: Any) -> TorchRunner:
    limits = {"max_num_seqs": 2, "max_model_len": 64, "threads": 1}
    return load(ModelConfig(path=str(folder)), RuntimeConfig(**limits | runtime), device=device)


def shards(folder: Path, count: int, dtype: str = "BF16") -> dict[str, str]:
    """Divide a folder's weights among files; returns the index."""
    weights = tiny_weights(json.loads((folder / "config.json").read_text()))
    (folder / "model.safetensors").unlink()
    places = {}
    for number in range(count):
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = {name: weights[name] for name in sorted(weights)[number::count]}
        write_safetensors(folder / file, part, dtype)
        places |= dict.fromkeys(part, file)
    write_json(folder / "model.safetensors.index.json", {"weight_map": places})
    return places


def logits(runner: TorchRunner) -> np.ndarray:
    (output,) = runner.execute([Work(0, 0, [5, 6, 7], 3)])
    return output.logits.copy()


# ------------------------------------------------------------------------------------ what is loaded


def test_capabilities_say_what_it_is(folder: Path) -> None:
    capabilities = load_it(folder).capabilities
    assert (capabilities.vocab_size, capabilities.max_num_seqs) == (2048, 2)
    assert capabilities.max_model_len == 64
    assert capabilities.kv_bytes_per_token == KV_BYTES
    assert capabilities.details["architecture"] == LLAMA
    assert capabilities.details["runner"] == "torch"
    assert len(capabilities.state_fingerprint) == 64


def test_the_context_is_the_models_if_nothing_is_asked_for(folder: Path) -> None:
    assert load_it(folder, max_model_len=None).capabilities.max_model_len == 512
    with pytest.raises(ModelLoadError, match="trained for 512"):
        load_it(folder, max_model_len=513)


def test_shards_are_one_model(folder: Path) -> None:
    expected = logits(load_it(folder))
    shards(folder, 3)
    assert np.array_equal(logits(load_it(folder)), expected)
    (folder / "model.safetensors.index.json").unlink()
    assert np.array_equal(logits(load_it(folder)), expected)


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_all_floating_types_are_taken(dtype: str, tmp_path: Path) -> None:
    exact = tiny_folder(tmp_path / "exact", LLAMA, dtype="F32")
    expected = logits(load_it(exact))
    found = logits(load_it(tiny_folder(tmp_path / "model", LLAMA, dtype=dtype)))
    assert np.abs(found - expected).max() < {"F32": 1e-6, "F16": 0.05, "BF16": 0.3}[dtype]
    assert (np.abs(found - expected).max() > 1e-4) == (dtype != "F32")


def test_other_weights_have_other_fingerprints(folder: Path) -> None:
    def fingerprint(**runtime: Any) -> str:
        return load_it(folder, **runtime).capabilities.state_fingerprint

    first = fingerprint()
    assert fingerprint(max_num_seqs=1) == first
    config = tiny_config(LLAMA)
    write_safetensors(folder / "model.safetensors", tiny_weights(config, seed=2), "BF16")
    assert fingerprint() != first


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_do_not_spin_for_long(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], spins: str | None
) -> None:
    """Unless the operator says otherwise."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, given.get(name, ""))
        if name not in given:
            monkeypatch.delenv(name)
    load_it(folder)
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.usefixtures("without_kernels")
def test_the_type_of_the_cache_counts(folder: Path) -> None:
    halves, brains = (load_it(folder, kv_cache_type=kind) for kind in ("f16", "bf16"))
    assert brains.capabilities.details["kv_cache_type"] == "bfloat16"
    assert halves.capabilities.state_fingerprint != brains.capabilities.state_fingerprint


def test_the_log_follows_the_progress(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config(LLAMA, num_hidden_layers=7)
    write_json(folder / "config.json", config)
    write_safetensors(folder / "model.safetensors", tiny_weights(config), "BF16")
    with caplog.at_level(logging.INFO, "inferflux.torch"):
        load_it(folder)
    told = [record.getMessage() for record in caplog.records if "%" in record.getMessage()]
    assert [int(line.split()[1]) for line in told] == [25, 50, 75, 100]


def test_packed_weights_do_not_follow_the_file(folder: Path) -> None:
    """The mapping is let go: whoever writes to the file changes nothing."""
    runner = load_it(folder)
    expected = logits(runner)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-100_000, 2)
        file.write(bytes(100_000))
    runner.release(0)
    assert np.array_equal(logits(runner), expected)


PEAK = """
import pathlib, re, sys
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_runner_torch import load
runtime = RuntimeConfig(max_num_seqs=1, max_model_len=64, threads=1)
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])
load(ModelConfig(path=sys.argv[1]), runtime)
before = peak()
runner = load(ModelConfig(path=sys.argv[2]), runtime)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is counted otherwise")
def test_weights_are_never_there_twice(original: Path, tmp_path: Path) -> None:
    """Mapped files and packed weights together; a layer of the model is a fifth of it."""
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 5}
    folder = tiny_folder(tmp_path / "model", LLAMA, dtype="F32", head_dim=16, **sizes)
    total = (folder / "model.safetensors").stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(original), str(folder)],
        capture_output=True,
        check=True,
        text=True,
    )
    assert 0.9 * total < int(done.stdout) < 1.7 * total


# ------------------------------------------------------------------------------------ linear layers


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_linear_layers_of_torch(precision: Any, biased: bool, rows: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    weight = torch.randn(33, 50, generator=draw)
    bias = torch.randn(33, generator=draw) if biased else None
    linear = pack_linear(weight, bias, precision, torch.float32, torch.device("cpu"))
    inputs = torch.randn(rows, 50, generator=draw)
    expected = torch.nn.functional.linear(inputs, weight, bias)
    weight.zero_()
    found = linear(inputs)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < {"f32": 1e-5, "bf16": 0.2, "f16": 0.03}[precision]


def test_torch_has_no_integer_layers() -> None:
    ops = TorchOps(torch.device("cpu"), torch.float32, torch.float16)
    with pytest.raises(ValueError, match="int8"):
        ops.pack(torch.zeros(2, 2), None, "int8")


# ------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("free", "need"),
    [
        pytest.param(0.5, r"needs \d MiB for its weights", id="weights"),
        pytest.param(0.0001, r"KV cache of 2 sequences of 64 tokens needs", id="cache"),
    ],
)
def test_too_little_memory_is_told_before_loading(
    folder: Path, monkeypatch: pytest.MonkeyPatch, free: float, need: str
) -> None:
    for module in ("inferflux_runner_torch.devices", "inferflux_core.engine.context_size"):
        monkeypatch.setattr(f"{module}.available_memory", lambda: int(free * 2**20))
    monkeypatch.setattr("inferflux_runner_torch.loading.load_weights", None)
    with pytest.raises(ModelLoadError, match=need) as refused:
        load_it(folder)
    assert "free" in refused.value.message
    assert "max_num_seqs" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ({"flash_attention": "off"}, "runtime.flash_attention is 'off'"),
        ({"kv_layout": "unified"}, "runtime.kv_layout is 'unified'"),
        ({"gpu_layers": 3}, "runtime.gpu_layers is 3"),
        ({"mps_layers": 3}, "runtime.mps_layers is 3"),
        ({"kv_cache_type": "q8_0"}, "runtime.kv_cache_type is q8_0"),
    ],
)
def test_options_of_llama_cpp_are_not_ignored(
    folder: Path, runtime: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelLoadError, match=message):
        load_it(folder, **runtime)


@pytest.mark.usefixtures("without_kernels")
def test_weights_of_other_types_need_kernels(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"runtime\.weights is q8_0"):
        load_it(folder, weights="q8_0")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_devices_that_are_not_there_are_named(folder: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one")
    with pytest.raises(ModelLoadError, match=f"finds no {device} device"):
        load_it(folder, device=device)


def change_config(folder: Path, changes: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 2049}, r"'model.embed_tokens.weight' has the shape \[2048, 64\].*2049"),
        ({"hidden_size": 128}, "has the shape"),
        ({"intermediate_size": 95}, "'model.layers.0.mlp.gate_proj.weight' has the shape"),
        ({"num_attention_heads": 8, "head_dim": 16}, "'model.layers.0.self_attn.q_proj.weight'"),
        ({"num_key_value_heads": 4}, "'model.layers.0.self_attn.k_proj.weight'"),
        ({"num_hidden_layers": 3}, "no tensor 'model.layers.2.input_layernorm.weight'"),
        ({"num_hidden_layers": 1}, "'model.layers.1.*which a LlamaForCausalLM has not"),
        ({"attention_bias": True}, "no tensor 'model.layers.0.self_attn.q_proj.bias'"),
        ({"architectures": ["Qwen3ForCausalLM"]}, "self_attn.q_norm.weight"),
    ],
)
def test_a_config_that_lies_about_the_weights_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(folder, changes)
    with pytest.raises(ModelLoadError, match=message) as refused:
        load_it(folder)
    assert refused.value.hint


def test_a_head_that_is_tied_need_not_be_there(folder: Path) -> None:
    separate = logits(load_it(folder))
    change_config(folder, {"tie_word_embeddings": True})
    assert not np.allclose(logits(load_it(folder)), separate)


def test_missing_and_foreign_shards_are_refused(folder: Path) -> None:
    places = shards(folder, 2)
    (folder / "model-00002-of-00002.safetensors").rename(folder / "away")
    with pytest.raises(ModelLoadError, match=r"shard model-00002-of-00002.* is missing"):
        load_it(folder)
    (folder / "away").rename(folder / "model-00002-of-00002.safetensors")
    swapped = dict(zip(places, reversed(places.values()), strict=True))
    write_json(folder / "model.safetensors.index.json", {"weight_map": swapped})
    with pytest.raises(ModelLoadError, match=r"index.json: tensor '.*' is not in"):
        load_it(folder)


def damaged(data: bytes, how: str) -> bytes:
    """A safetensors file with one thing wrong."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = "model.norm.weight"
    begin, end = header[name]["data_offsets"]
    whole = {
        "empty": b"",
        "truncated": data[:-1],
        "oversized header": (1 << 40).to_bytes(8, "little") + data[8:],
        "header beyond the end": len(data).to_bytes(8, "little") + data[8:],
        "no JSON": data[:8] + b"}" * length + body,
    }
    if how in whole:
        return whole[how]
    offsets = {
        "overlapping": [begin - 2, end - 2],
        "outside": [begin + len(body), end + len(body)],
        "negative": [end, begin],
    }
    others = {"another shape": {"shape": [63]}, "another type": {"dtype": "I16"}}
    header[name] |= others.get(how) or {"data_offsets": offsets[how]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


DAMAGES = (
    *("empty", "truncated", "oversized header", "header beyond the end", "no JSON", "overlapping"),
    *("outside", "negative", "another shape", "another type"),
)


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_weights_are_refused(folder: Path, how: str) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(damaged(file.read_bytes(), how))
    with pytest.raises(ModelLoadError) as refused:
        load_it(folder)
    assert "model" in refused.value.message
    assert refused.value.hint


def test_an_incomplete_folder_is_refused(folder: Path) -> None:
    for file in ("tokenizer.json", "model.safetensors", "config.json"):
        (folder / file).unlink()
        with pytest.raises(ModelLoadError, match=file):
            load_it(folder)


def test_pickles_are_not_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="pickle"):
        load_it(folder)
