"""Which runner executes a model, where a backend has more than one."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.errors import ModelLoadError
from inferflux_core.models.folder.fields import read_fields
from inferflux_core.models.folder.layout import is_model_folder
from inferflux_core.models.folder.purpose import only_embeds

__all__ = [
    "Runner",
    "RunnerChoice",
    "choose_runner",
    "has_torch_library",
    "has_torch_runner",
    "model_formats",
]

logger = logging.getLogger("inferflux.backends")

_TORCH_MODULE: Final = "inferflux_runner_torch"

Runner = Literal["llamacpp", "torch", "mlx"]


@dataclass(frozen=True, slots=True)
class RunnerChoice:
    """The runner of a model, and why it is that one."""

    runner: Runner
    reason: str

    @property
    def details(self) -> dict[str, str]:
        """For the runner's capabilities."""
        return {"runner_choice": self.reason}


def has_torch_runner() -> bool:
    """Whether the torch runner is installed; it is not imported for that."""
    return importlib.util.find_spec(_TORCH_MODULE) is not None


def has_torch_library(name: str) -> bool:
    """Whether the torch runner is installed, with a torch that has a library such as `torch_cuda`."""
    spec = importlib.util.find_spec("torch") if has_torch_runner() else None
    places = (spec.submodule_search_locations if spec else None) or ()
    return any(any(Path(place, "lib").glob(f"*{name}.*")) for place in places)


def model_formats() -> frozenset[str]:
    """What backends with both runners can load, for their capabilities."""
    return frozenset({"gguf", "safetensors"} if has_torch_runner() else {"gguf"})


def choose_runner(
    model: ModelConfig, runtime: RuntimeConfig, distribution: str, *, mlx: bool | None = None
) -> RunnerChoice:
    """Choose, and say so in the log.

    llama.cpp reads GGUF files and the torch runner folders with safetensors. The torch runner reads GGUF
    files too, but computes with the weights it makes of them, so it is used for those only when asked for.
    Where there is MLX, it gets the folders, but for models that only embed or rank.

    Args:
        model: `path` is a file or folder on this machine.
        runtime: `runner` may say which.
        distribution: of the backend, whose extras `torch` and `mlx` install the runners.
        mlx: whether MLX can run models; None on backends that have no use for it.

    Raises:
        ModelLoadError: the runner cannot read the model, or is not installed.
    """
    assert model.path is not None
    if runtime.runner == "mlx" and mlx is None:
        raise ModelLoadError(
            f"runtime.runner is mlx, and {distribution} has no such runner",
            hint="set `runtime.backend` to mps, on a Mac, or remove `runtime.runner`",
        )
    installed = {"llamacpp": True, "torch": has_torch_runner(), "mlx": bool(mlx)}
    # Where neither is, the one to install is MLX.
    prefers_mlx = mlx or (mlx is not None and not installed["torch"])
    choice = _choice(Path(model.path), runtime.runner, folders="mlx" if prefers_mlx else "torch")
    if not installed[choice.runner]:
        raise ModelLoadError(
            f"the {choice.runner} runner is needed ({choice.reason}), and is not installed",
            hint=f"pip install '{distribution}[{choice.runner}]'",
        )
    logger.info("%s: runner %s: %s", Path(model.path).name, choice.runner, choice.reason)
    return choice


def _choice(
    path: Path, wanted: Literal["auto"] | Runner, *, folders: Literal["torch", "mlx"]
) -> RunnerChoice:
    if path.is_dir():
        if not is_model_folder(path):
            raise ModelLoadError(
                f"{path} is a folder without safetensors, or without a config.json",
                hint="set `model.path` to a GGUF file, or to a model's whole folder",
            )
        if wanted == "llamacpp":
            raise ModelLoadError(
                f"llama.cpp reads GGUF files, and {path} is a folder",
                hint="set `runtime.runner` to auto or torch, or make a GGUF file of it",
            )
        if only_embeds(read_fields(path / "config.json")):
            if wanted == "mlx":
                raise ModelLoadError(
                    f"MLX runs models that write, and {path} only embeds or ranks",
                    hint="set `runtime.runner` to auto or torch",
                )
            return RunnerChoice("torch", "the model is a folder that only embeds or ranks")
        return RunnerChoice(
            folders if wanted == "auto" else wanted, "the model is a folder with safetensors"
        )
    if wanted == "mlx":
        raise ModelLoadError(
            f"MLX runs model folders, and {path} is a file",
            hint="set `runtime.runner` to auto, or `model.path` to a folder with safetensors",
        )
    if wanted != "auto":
        return RunnerChoice(wanted, f"runtime.runner is {wanted}")
    return RunnerChoice("llamacpp", "the model is a GGUF file")
