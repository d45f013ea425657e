"""Which runner is faster for a GGUF file that both can run, found by trying both on this machine.

Each is tried in a process of its own, so that no memory and no threads of the other are left over. The
result is kept with what llama.cpp's tuning measures, and found anew when the file, the machine, a library
or a setting has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from inferflux_core.backends.runner_choice import RunnerChoice, has_torch_runner
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.cost import CostModel
from inferflux_core.errors import ModelLoadError
from inferflux_runner_llamacpp.measurements import Comparison, Measurements, Timings

__all__ = ["Trial", "compared"]

logger = logging.getLogger("inferflux.backends")

Trial = Callable[[str], CostModel]
"""What passes cost with a runner, by its name.

Raises ModelLoadError if it cannot run the model now, and ChildProcessError if it is no use to try again.
"""

_EXPECTED_REQUESTS: Final = 8
"""At once, where `runtime.max_num_seqs` does not say."""
_PROMPT: Final = 64
_MARGIN: Final = 1.15
"""Quantized weights take more memory once torch has expanded them, so it must be faster by so much."""
_ONLY_LLAMACPP: Final = ("weights", "kv_cache_type", "flash_attention", "kv_layout")


def compared(model: ModelConfig, runtime: RuntimeConfig, trial: Trial) -> RunnerChoice | None:
    """Measure both runners, or remember what was measured, and say in the log what follows.

    Args:
        model: `path` is a file or folder on this machine.
        runtime: how to run it.
        trial: tries a runner.

    Returns:
        None if there is nothing to choose.
    """
    assert model.path is not None
    path = Path(model.path)
    if runtime.runner != "auto" or not path.is_file() or not has_torch_runner():
        return None
    if reason := _ties_to_llamacpp(model, runtime) or _problem(path):
        choice = RunnerChoice("llamacpp", reason)
    else:
        choice = _measured(path, runtime, trial)
    logger.info("%s: runner %s: %s", path.name, choice.runner, choice.reason)
    return choice


def _measured(path: Path, runtime: RuntimeConfig, trial: Trial) -> RunnerChoice:
    import inferflux_runner_torch

    question = f"torch {version('torch')}, {inferflux_runner_torch.kernels()}, {runtime}"
    requests = runtime.max_num_seqs or _EXPECTED_REQUESTS

    def compare() -> Comparison:
        logger.info("%s: measuring on this machine, once, which runner is faster", path.name)
        return _compare(trial, requests)

    return _verdict(Measurements(path).comparison(question, compare), requests)


def _ties_to_llamacpp(model: ModelConfig, runtime: RuntimeConfig) -> str:
    """What in the configuration only llama.cpp can do with a GGUF file, or ""."""
    for key in _ONLY_LLAMACPP:
        if getattr(runtime, key) != "auto":
            return f"runtime.{key} is set, which is for llama.cpp"
    if model.adapters or model.adapters_folder:
        return "adapters of a GGUF file are GGUF files, which are for llama.cpp"
    return ""


def _problem(path: Path) -> str:
    """Why torch cannot run a file at all, or ""."""
    import inferflux_runner_torch

    try:
        inferflux_runner_torch.check_gguf(path)
    except ModelLoadError as error:
        return f"torch cannot run it: {error.message}"
    return ""


def _compare(trial: Trial, requests: int) -> Comparison:
    seconds: dict[str, float] = {}
    # If llama.cpp fails, its own error is to be seen, and not that of a comparison.
    for runner in ("torch", "llamacpp"):
        try:
            cost = trial(runner)
        except ModelLoadError as error:
            # There may be more memory the next time.
            return Comparison(seconds, {runner: error.message}, lasting=False)
        except ChildProcessError as error:
            return Comparison(seconds, {runner: str(error)})
        seconds[runner] = _seconds(cost, requests)
    return Comparison(seconds, {})


def _seconds(cost: CostModel, requests: int) -> float:
    """How long a request takes, alone and among others."""
    return Timings(
        prompt_token=cost.prefill_seconds(_PROMPT) / _PROMPT,
        one=cost.decode_seconds(1),
        many=cost.decode_seconds(requests),
        many_rows=requests,
    ).cost


def _verdict(found: Comparison, requests: int) -> RunnerChoice:
    if found.problems:
        ((runner, problem),) = found.problems.items()
        name = "torch" if runner == "torch" else "llama.cpp"
        return RunnerChoice("llamacpp", f"{name} cannot run it here: {problem}")
    torch, llamacpp = found.seconds["torch"], found.seconds["llamacpp"]
    chosen = torch * _MARGIN < llamacpp
    return RunnerChoice(
        "torch" if chosen else "llamacpp",
        f"measured with requests of {_PROMPT} tokens, alone and {requests} at once: {torch:.2f} s each with "
        f"torch, {llamacpp:.2f} s with llama.cpp"
        + (
            ""
            if chosen or torch >= llamacpp
            else "; torch takes more memory, and is not much faster"
        ),
    )
