"""Tries a runner on a model: `python -m inferflux_backend_cpu.trial`, with JSON in and out.

What is read is `{"runner": "torch", "model": {...}, "runtime": {...}}`; what is written is
`{"cost": {...}}`, or `{"problem": "..."}` if it cannot run the model here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final, Literal

import msgspec

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.cost import CostModel
from inferflux_core.errors import ModelLoadError, StartupError
from inferflux_core.plugins import PluginManager
from inferflux_core.processors import use_all_cores

__all__ = ["main", "try_runner"]

_COMMAND: Final = (sys.executable, "-P", "-m", "inferflux_backend_cpu.trial")


class _Question(msgspec.Struct, frozen=True):
    runner: Literal["llamacpp", "torch"]
    model: ModelConfig
    runtime: RuntimeConfig


class _Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    cost: CostModel | None = None
    problem: str = ""


def try_runner(runner: str, model: ModelConfig, runtime: RuntimeConfig) -> CostModel:
    """What passes cost with a runner, found in a process that ends with it.

    Raises:
        ModelLoadError: it refuses the model.
        ChildProcessError: its process died, or took more than half of `runtime.load_timeout`.
    """
    use_all_cores()  # It inherits those of this thread.
    question = msgspec.json.encode({"runner": runner, "model": model, "runtime": runtime})
    try:
        done = subprocess.run(  # noqa: S603 - our own program, with arguments written above
            _COMMAND,
            input=question,
            stdout=subprocess.PIPE,
            timeout=runtime.load_timeout / 2,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildProcessError(f"it was not loaded within {error.timeout:.0f} s") from None
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except msgspec.DecodeError:
        raise ChildProcessError(f"the process that tried it ended with {done.returncode}") from None
    if answer.cost is None:
        raise ModelLoadError(answer.problem)
    return answer.cost


def main() -> None:
    """Answer one question."""
    # Libraries write to the standard output as they like.
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)
        question = msgspec.json.decode(sys.stdin.buffer.read(), type=_Question)
        output.write(msgspec.json.encode(_measured(question)))


def _measured(question: _Question) -> _Answer:
    runtime = msgspec.structs.replace(question.runtime, runner=question.runner)
    try:
        spec = PluginManager(strict=False, trace=False).backend("cpu")
        runner = spec.factory(question.model, runtime)
        runner.warm_up()
    except StartupError as error:
        return _Answer(problem=error.message)
    except (OSError, MemoryError) as error:
        return _Answer(problem=f"{type(error).__name__}: {error}")
    cost = runner.capabilities.cost
    runner.close()
    return _Answer(cost=cost, problem="" if cost else "it measures nothing")


if __name__ == "__main__":
    main()
