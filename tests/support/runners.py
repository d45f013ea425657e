"""A torch runner that only notes what it is asked to load."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.errors import ModelLoadError

TORCH_RUNNER = "inferflux_runner_torch"


class FakeTorchRunner(ModuleType):
    """What `import inferflux_runner_torch` finds in place of the package."""

    def __init__(self) -> None:
        super().__init__(TORCH_RUNNER)
        self.__spec__ = ModuleSpec(TORCH_RUNNER, None)
        self.loaded: list[dict[str, Any]] = []
        self.refuses = ""
        self.kernel_names = "no kernels"

    def load(self, model: ModelConfig, runtime: RuntimeConfig, **settings: Any) -> str:
        """Note it; the runner is a word."""
        self.loaded.append({"path": model.path, **settings})
        return "a torch runner"

    def kernels(self) -> str:
        """What measurements depend on."""
        return self.kernel_names

    def check_gguf(self, path: Path) -> None:
        """Take every file, until it is told otherwise."""
        if self.refuses:
            raise ModelLoadError(self.refuses)


def fake_torch_runner(monkeypatch: pytest.MonkeyPatch) -> FakeTorchRunner:
    """Put it in the package's place."""
    runner = FakeTorchRunner()
    monkeypatch.setitem(sys.modules, TORCH_RUNNER, runner)
    return runner


def without_torch_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package look as if it were not installed."""
    monkeypatch.setitem(sys.modules, TORCH_RUNNER, None)


def model_folder(folder: Path) -> Path:
    """What can be told to be a model's folder, without a model."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder
