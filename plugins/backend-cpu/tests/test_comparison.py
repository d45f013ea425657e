"""Which runner a GGUF file gets where both are installed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support.runners import (
    FakeTorchRunner,
    fake_torch_runner,
    model_folder,
    without_torch_runner,
)

from inferflux_backend_cpu import comparison
from inferflux_backend_cpu.comparison import compared
from inferflux_backend_cpu.trial import try_runner
from inferflux_core.config.schema import AdapterConfig, ModelConfig, RuntimeConfig
from inferflux_core.engine.cost import CostModel
from inferflux_core.errors import ModelLoadError
from inferflux_runner_llamacpp.measurements import Measurements


def cost(token: float, step: float, step_of_eight: float) -> CostModel:
    """In milliseconds."""
    return CostModel(
        decode=((1, step / 1000), (8, step_of_eight / 1000)), prefill=((64, 64 * token / 1000),)
    )


SLOW, FAST = cost(2, 10, 40), cost(0.5, 4, 12)


class Trials:
    """What measuring would find; says what was tried."""

    def __init__(self, **found: CostModel | Exception) -> None:
        self.found = found
        self.tried: list[str] = []

    def __call__(self, runner: str) -> CostModel:
        self.tried.append(runner)
        found = self.found[runner]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTorchRunner:
    """A torch runner, and measurements of the test's own."""
    monkeypatch.setattr(comparison, "version", lambda _: "2.13.0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake_torch_runner(monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    return ModelConfig(path=str(file))


@pytest.mark.parametrize(
    ("torch", "llamacpp", "runner"),
    [(FAST, SLOW, "torch"), (SLOW, FAST, "llamacpp"), (SLOW, SLOW, "llamacpp")],
)
def test_the_faster_one_is_chosen(
    torch: CostModel,
    llamacpp: CostModel,
    runner: str,
    model: ModelConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "inferflux.backends"):
        choice = compared(model, RuntimeConfig(), Trials(torch=torch, llamacpp=llamacpp))
    assert choice is not None
    assert choice.runner == runner
    assert choice.reason.startswith("measured with requests of 64 tokens, alone and 8 at once: ")
    assert caplog.messages[-1] == f"model.gguf: runner {runner}: {choice.reason}"


def test_torch_must_be_clearly_faster(model: ModelConfig) -> None:
    choice = compared(model, RuntimeConfig(), Trials(torch=cost(1.9, 9.5, 38), llamacpp=SLOW))
    assert choice is not None
    assert choice.runner == "llamacpp"
    assert choice.reason.endswith("torch takes more memory, and is not much faster")


def test_how_many_requests_are_expected_decides(model: ModelConfig) -> None:
    alone, together = cost(1, 6, 60), cost(1, 12, 14)
    trials = Trials(torch=together, llamacpp=alone)
    for requests, runner in ((1, "llamacpp"), (8, "torch")):
        choice = compared(model, RuntimeConfig(max_num_seqs=requests), trials)
        assert choice is not None
        assert choice.runner == runner


def test_it_is_measured_once_until_something_changes(model: ModelConfig) -> None:
    trials = Trials(torch=FAST, llamacpp=SLOW)
    for runtime in (RuntimeConfig(), RuntimeConfig(), RuntimeConfig(threads=1)):
        compared(model, runtime, trials)
    assert trials.tried == ["torch", "llamacpp"] * 2
    assert model.path is not None
    Measurements(Path(model.path)).forget()
    compared(model, RuntimeConfig(), trials)
    assert len(trials.tried) == 6


def test_other_kernels_are_measured_anew(model: ModelConfig, installed: FakeTorchRunner) -> None:
    compared(model, RuntimeConfig(), Trials(torch=FAST, llamacpp=SLOW))
    installed.kernel_names = "kernels avx512 2"
    again = Trials(torch=SLOW, llamacpp=FAST)
    choice = compared(model, RuntimeConfig(), again)
    assert again.tried
    assert choice is not None
    assert choice.runner == "llamacpp"


def test_what_trying_keeps_is_not_lost(model: ModelConfig) -> None:
    assert model.path is not None
    kept = Measurements(Path(model.path))

    def trial(runner: str) -> CostModel:
        return kept.cost(f"with {runner}", lambda: SLOW)

    compared(model, RuntimeConfig(), trial)
    assert kept.cost("with llamacpp", lambda: FAST) == SLOW


@pytest.mark.parametrize(
    ("error", "lasting"),
    [(ModelLoadError("no memory"), False), (ChildProcessError("no memory"), True)],
)
@pytest.mark.parametrize("runner", ["torch", "llamacpp"])
def test_one_that_cannot_run_the_model_is_no_choice(
    runner: str, error: Exception, lasting: bool, model: ModelConfig
) -> None:
    found: dict[str, Any] = {"torch": FAST, "llamacpp": SLOW, runner: error}
    choice = compared(model, RuntimeConfig(), Trials(**found))
    assert choice is not None
    assert choice.runner == "llamacpp"
    again = Trials(torch=FAST, llamacpp=SLOW)
    compared(model, RuntimeConfig(), again)
    assert bool(again.tried) != lasting
    name = "torch" if runner == "torch" else "llama.cpp"
    assert choice.reason == f"{name} cannot run it here: no memory"


def test_a_file_that_torch_does_not_take_is_not_measured(
    model: ModelConfig, installed: FakeTorchRunner
) -> None:
    installed.refuses = "models of the architecture 'mamba'"
    trials = Trials()
    choice = compared(model, RuntimeConfig(), trials)
    assert choice is not None
    assert choice.runner == "llamacpp"
    assert choice.reason == "torch cannot run it: models of the architecture 'mamba'"
    assert not trials.tried


@pytest.mark.parametrize(
    ("settings", "runtime", "reason"),
    [
        ({}, RuntimeConfig(weights="f16"), "runtime.weights is set"),
        ({}, RuntimeConfig(kv_layout="unified"), "runtime.kv_layout is set"),
        ({"adapters_folder": "adapters"}, RuntimeConfig(), "adapters of a GGUF file"),
        ({"adapters": [AdapterConfig(name="a", path="a.gguf")]}, RuntimeConfig(), "adapters of"),
    ],
)
def test_what_only_llama_cpp_does_is_not_measured(
    settings: dict[str, Any], runtime: RuntimeConfig, reason: str, model: ModelConfig
) -> None:
    trials = Trials()
    choice = compared(ModelConfig(path=model.path, **settings), runtime, trials)
    assert choice is not None
    assert choice.runner == "llamacpp"
    assert choice.reason.startswith(reason)
    assert not trials.tried


def test_where_there_is_no_choice_nothing_is_measured(
    model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials()
    folder = ModelConfig(path=str(model_folder(tmp_path / "folder")))
    missing = ModelConfig(path=str(tmp_path / "missing.gguf"))
    assert compared(folder, RuntimeConfig(), trials) is None
    assert compared(missing, RuntimeConfig(), trials) is None
    for runner in ("torch", "llamacpp"):
        assert compared(model, RuntimeConfig(runner=runner), trials) is None  # type: ignore[arg-type]
    without_torch_runner(monkeypatch)
    assert compared(model, RuntimeConfig(), trials) is None
    assert not trials.tried


def test_a_trial_takes_place_in_a_process_of_its_own(model: ModelConfig) -> None:
    with pytest.raises(ModelLoadError, match=r"model\.gguf"):
        try_runner("llamacpp", model, RuntimeConfig())


def test_a_trial_that_takes_too_long_is_ended(model: ModelConfig) -> None:
    with pytest.raises(ChildProcessError, match="not loaded within"):
        try_runner("llamacpp", model, RuntimeConfig(load_timeout=0.02))
