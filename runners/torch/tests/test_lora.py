"""LoRA adapters: what they add, row by row, and which ones are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.hf_folders import (
    tiny_config,
    tiny_folder,
    tiny_weights,
    write_safetensors,
)
from support.peft_folders import RANK, Factors, drawn_factors, peft_folder

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import AdapterSet, Work
from inferflux_core.errors import InvalidRequestError
from inferflux_runner_torch import load
from inferflux_runner_torch.adapters import Adapters
from inferflux_runner_torch.runner import TorchRunner

QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
LINEARS = {QUERY: (16, 24), DOWN: (32, 16)}


def drawn(seed: int, rank: int = RANK, names: tuple[str, ...] = (QUERY, DOWN)) -> Factors:
    """Both factors of each linear layer."""
    return drawn_factors({name: LINEARS[name] for name in names}, seed=seed, rank=rank)


@pytest.fixture
def adapters() -> Adapters:
    return Adapters(LINEARS, torch.float32, torch.device("cpu"))


def changed(
    adapters: Adapters, name: str, inputs: torch.Tensor, *work: tuple[AdapterSet, int]
) -> torch.Tensor:
    """What a batch adds to the outputs of a linear layer."""
    outputs = torch.zeros(len(inputs), LINEARS[name][1])
    plan = adapters.plan(work)
    assert plan is not None
    plan.add(name, inputs, outputs)
    return outputs


def expected(factors: Factors, name: str, inputs: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
    down, up = map(torch.from_numpy, factors[name])
    return scale * inputs @ (up @ down).T


def inputs_for(name: str, rows: int) -> torch.Tensor:
    return torch.randn(rows, LINEARS[name][0], generator=torch.Generator().manual_seed(5))


# ------------------------------------------------------------------------------ what is added


@pytest.mark.parametrize("name", [QUERY, DOWN])
def test_every_row_of_a_batch_has_its_own_adapters(
    adapters: Adapters, tmp_path: Path, name: str
) -> None:
    one, two = drawn(1), drawn(2)
    first = adapters.load(peft_folder(tmp_path / "one", one))
    second = adapters.load(peft_folder(tmp_path / "two", two))
    work: list[tuple[AdapterSet, int]] = [
        (((first, 1.0),), 3),
        ((), 2),
        (((first, -0.5), (second, 1.0)), 1),
        (((second, 2.0),), 4),
    ]
    inputs = inputs_for(name, 10)
    found = changed(adapters, name, inputs, *work)
    wanted = torch.zeros_like(found)
    wanted[:3] = expected(one, name, inputs[:3])
    wanted[5] = expected(two, name, inputs[5]) - 0.5 * expected(one, name, inputs[5])
    wanted[6:] = 2.0 * expected(two, name, inputs[6:])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not found[3:5].any()


def test_rows_of_one_adapter_need_not_be_neighbours(adapters: Adapters, tmp_path: Path) -> None:
    one = drawn(1)
    handle = adapters.load(peft_folder(tmp_path / "one", one))
    inputs = inputs_for(QUERY, 5)
    uses: AdapterSet = ((handle, 1.0),)
    found = changed(adapters, QUERY, inputs, (uses, 2), ((), 1), (uses, 2))
    wanted = expected(one, QUERY, inputs)
    wanted[2] = 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_outputs_may_be_columns_of_something_larger(adapters: Adapters, tmp_path: Path) -> None:
    one = drawn(1)
    handle = adapters.load(peft_folder(tmp_path / "one", one))
    inputs, outputs = inputs_for(QUERY, 3), torch.ones(3, 40)
    plan = adapters.plan([(((handle, 1.0),), 3)])
    assert plan is not None
    plan.add(QUERY, inputs, outputs[:, 8:32])
    torch.testing.assert_close(
        outputs[:, 8:32], 1 + expected(one, QUERY, inputs), rtol=1e-4, atol=1e-4
    )
    assert (outputs[:, :8] == 1).all()
    assert (outputs[:, 32:] == 1).all()


def test_layers_that_an_adapter_leaves_alone_stay_as_they_are(
    adapters: Adapters, tmp_path: Path
) -> None:
    handle = adapters.load(peft_folder(tmp_path / "one", drawn(1, names=(QUERY,))))
    assert not changed(adapters, DOWN, inputs_for(DOWN, 2), (((handle, 1.0),), 2)).any()


def test_without_adapters_there_is_nothing_to_do(adapters: Adapters) -> None:
    assert adapters.plan([((), 3), ((), 1)]) is None


@pytest.mark.parametrize(
    ("config", "rank", "scale"),
    [
        ({"lora_alpha": 16}, 4, 4.0),
        ({"use_rslora": True}, 4, 4.0),
        ({"rank_pattern": {"q_proj": 2}}, 2, 4.0),
        ({"rank_pattern": {"q_proj": 2}, "use_rslora": True}, 2, 8 / math.sqrt(2)),
    ],
)
def test_an_adapter_has_a_scale_of_its_own(
    adapters: Adapters, tmp_path: Path, config: dict[str, Any], rank: int, scale: float
) -> None:
    one = drawn(1, rank, names=(QUERY,))
    handle = adapters.load(peft_folder(tmp_path / "one", one, **config))
    inputs = inputs_for(QUERY, 2)
    found = changed(adapters, QUERY, inputs, (((handle, 1.0),), 2))
    torch.testing.assert_close(found, expected(one, QUERY, inputs, scale), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_types_of_files_and_of_models_may_differ(
    tmp_path: Path, dtype: str, held: torch.dtype
) -> None:
    adapters, one = Adapters(LINEARS, held, torch.device("cpu")), drawn(1)
    handle = adapters.load(peft_folder(tmp_path / "one", one, dtype))
    inputs, uses = inputs_for(QUERY, 4), ((handle, 1.0),)
    for work in ([(uses, 4)], [(uses, 1), (((handle, 0.5),), 3)], [(uses, 1), ((), 1), (uses, 2)]):
        outputs = torch.zeros(4, 24, dtype=held)
        plan = adapters.plan(work)
        assert plan is not None
        plan.add(QUERY, inputs.to(held), outputs)
        wanted = expected(one, QUERY, inputs)[0]
        torch.testing.assert_close(outputs[0].float(), wanted, rtol=0.05, atol=0.4)


def test_handles_are_never_given_out_twice(adapters: Adapters, tmp_path: Path) -> None:
    path = peft_folder(tmp_path / "one", drawn(1))
    first = adapters.load(path)
    adapters.free(first)
    assert adapters.load(path) != first


# ------------------------------------------------------------------------------ in a model

RUNTIME = RuntimeConfig(max_num_seqs=4, max_model_len=64)
TARGETS = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)
PROMPT = [5, 9, 200, 17, 3]


def logits_of(runner: TorchRunner, *uses: AdapterSet) -> list[np.ndarray]:
    """The next token's, after the same prompt with each set of adapters, in one batch."""
    works = [Work(slot, 0, PROMPT, adapters=adapters) for slot, adapters in enumerate(uses)]
    found: dict[int, np.ndarray] = {}
    for output in runner.execute(works):
        found |= dict(zip(output.indices, output.logits.copy(), strict=True))
    for slot in range(len(uses)):
        runner.release(slot)
    return [found[slot] for slot in range(len(uses))]


def with_config(folder: Path, architecture: str, weights: dict[str, Any]) -> Path:
    tiny_folder(folder, architecture, dtype="F32")
    write_safetensors(folder / "model.safetensors", weights, "F32")
    return folder


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Gemma3ForCausalLM"])
def test_a_model_with_an_adapter_is_the_model_with_other_weights(
    architecture: str, tmp_path: Path
) -> None:
    weights = tiny_weights(tiny_config(architecture))
    linears = {
        f"model.layers.{layer}.{target}": weights[f"model.layers.{layer}.{target}.weight"].T.shape
        for layer in range(2)
        for target in TARGETS
    }
    merged, adapters = [], []
    for seed, name in enumerate(("one", "two")):
        factors = drawn_factors(linears, seed=seed, scale=0.35)
        adapters.append(peft_folder(tmp_path / name, factors))
        changes = {f"{linear}.weight": 2.0 * up @ down for linear, (down, up) in factors.items()}
        merged.append({key: weight + changes.get(key, 0) for key, weight in weights.items()})
    both = {key: merged[0][key] + 0.5 * (merged[1][key] - weights[key]) for key in weights}

    expected_logits = []
    for number, content in enumerate((*merged, both, weights)):
        folder = with_config(tmp_path / f"merged-{number}", architecture, content)
        runner = load(ModelConfig(path=str(folder)), RUNTIME)
        expected_logits += logits_of(runner, ())
        runner.close()

    folder = with_config(tmp_path / "base", architecture, weights)
    runner = load(ModelConfig(path=str(folder)), RUNTIME)
    assert runner.capabilities.hosts_adapters
    one, two = map(runner.load_adapter, adapters)
    found = logits_of(runner, ((one, 1.0),), ((two, 1.0),), ((one, 1.0), (two, 0.5)), ())
    for mine, wanted in zip(found, expected_logits, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=2e-2, atol=2e-2)
    assert np.abs(found[0] - found[3]).max() > 0.1
    runner.free_adapter(one)
    runner.free_adapter(two)
    runner.close()


# ------------------------------------------------------------------------------ what is refused


def _without_half(factors: Factors, folder: Path) -> None:
    peft_folder(folder, factors)
    down, _ = factors[QUERY]
    name = f"base_model.model.{QUERY}.lora_A.weight"
    write_safetensors(folder / "adapter_model.safetensors", {name: down}, "F32")


def _with_infinity(factors: Factors, folder: Path) -> None:
    factors[QUERY][0][1, 1] = np.inf
    peft_folder(folder, factors)


def _named(name: str) -> Callable[[Factors, Path], None]:
    def write(factors: Factors, folder: Path) -> None:
        peft_folder(folder, factors)
        write_safetensors(folder / "adapter_model.safetensors", {name: factors[QUERY][0]}, "F32")

    return write


def _configured(**config: Any) -> Callable[[Factors, Path], None]:
    return lambda factors, folder: void(peft_folder(folder, factors, **config))


def void(_: object) -> None:
    """A value that nobody wants."""


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_configured(peft_type="IA3"), "'peft_type' is 'IA3'"),
        (_configured(use_dora=True), "'use_dora' is set"),
        (_configured(bias="all"), "'bias' is set"),
        (_configured(modules_to_save=["lm_head"]), "'modules_to_save' is set"),
        (_configured(alpha_pattern={"q_proj": 3}), "'alpha_pattern' is set"),
        (_configured(fan_in_fan_out=True), "'fan_in_fan_out' is set"),
        (_configured(r=8), "have the rank 4, and adapter_config.json says 8"),
        (_configured(r=0), "'r' must be an integer from 1"),
        (_configured(r=None), "'r' is missing"),
        (_configured(lora_alpha="16"), "'lora_alpha' must be a positive number"),
        (_configured(rank_pattern=[]), "'rank_pattern' must be an object"),
        (_without_half, "one of the two factors"),
        (_with_infinity, "infinite or none"),
        (_named("base_model.model.lm_head.weight"), "is no factor of a LoRA"),
        (_named(f"base_model.model.{QUERY}.lora_magnitude_vector"), "is no factor of a LoRA"),
        (lambda _, folder: void(peft_folder(folder, {})), "it changes no weights"),
    ],
)
def test_adapters_that_cannot_be_applied_are_refused(
    adapters: Adapters,
    tmp_path: Path,
    write: Callable[[Factors, Path], None],
    message: str,
) -> None:
    write(drawn(1), tmp_path / "one")
    with pytest.raises(InvalidRequestError, match=message) as caught:
        adapters.load(tmp_path / "one")
    assert caught.value.param == "lora_path"


@pytest.mark.parametrize(
    ("linears", "message"),
    [
        ({QUERY: (16, 24)}, f"the model has no linear layer '{DOWN}'"),
        ({QUERY: (16, 32), DOWN: (32, 16)}, r"needs \[rank, 16\] and \[32, rank\]"),
        ({QUERY: (8, 24), DOWN: (32, 16)}, r"needs \[rank, 8\] and \[24, rank\]"),
    ],
)
def test_adapters_of_another_model_are_refused(
    tmp_path: Path, linears: dict[str, tuple[int, int]], message: str
) -> None:
    adapters = Adapters(linears, torch.float32, torch.device("cpu"))
    with pytest.raises(InvalidRequestError, match=message):
        adapters.load(peft_folder(tmp_path / "one", drawn(1)))


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff" * 64])
def test_damaged_adapters_are_refused(
    adapters: Adapters, tmp_path: Path, file: str, content: bytes | None
) -> None:
    path = peft_folder(tmp_path / "one", drawn(1)) / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(InvalidRequestError):
        adapters.load(tmp_path / "one")


def test_a_gguf_adapter_is_refused_with_advice(adapters: Adapters, tmp_path: Path) -> None:
    file = tmp_path / "style.gguf"
    file.write_bytes(json.dumps({}).encode())
    with pytest.raises(InvalidRequestError, match=r"style\.gguf is a file; .* as PEFT saves them"):
        adapters.load(file)
