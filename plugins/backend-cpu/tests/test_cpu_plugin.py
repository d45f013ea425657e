"""The `cpu` plugin as the server meets it: through its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from support.runners import fake_torch_runner, model_folder

from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.errors import ModelLoadError
from inferflux_core.processors import core_count
from inferflux_core.specs import BackendSpec


@pytest.fixture
def spec() -> BackendSpec:
    (entry,) = entry_points(group="inferflux.backends", name="cpu")
    (declared,) = entry.load().inferflux_backends()
    return declared


def test_it_can_run_here(spec: BackendSpec) -> None:
    probe = spec.probe()
    assert probe.available, probe.reason


def test_declaring_and_probing_load_no_model_library() -> None:
    code = (
        "import sys, inferflux_backend_cpu.plugin as plugin;"
        "[spec.probe() for spec in plugin.inferflux_backends()];"
        "sys.exit('llama_cpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_factory_reaches_the_runner(spec: BackendSpec, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelLoadError, match=r"broken\.gguf"):
        spec.factory(ModelConfig(path=str(broken)), RuntimeConfig())


def test_folders_go_to_the_torch_runner(
    spec: BackendSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_runner = fake_torch_runner(monkeypatch)
    path = str(model_folder(tmp_path / "model"))
    assert spec.factory(ModelConfig(path=path), RuntimeConfig()) == "a torch runner"
    (call,) = torch_runner.loaded
    assert (call["path"], call["device"]) == (path, "cpu")
    assert call["details"] == {"runner_choice": "the model is a folder with safetensors"}


def test_the_crash_hint_rebuilds_with_the_flags_gcc_needs(spec: BackendSpec) -> None:
    assert spec.crash_hint is not None
    assert "-fno-tree-dse -fno-dse" in spec.crash_hint
    assert "--no-binary llama-cpp-python" in spec.crash_hint


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be bound here")
def test_every_runner_gets_all_cores(spec: BackendSpec) -> None:
    """Though other packages bring copies of OpenMP's library too, which bind the thread that loads them."""
    code = (
        "import os, inferflux_backend_cpu.plugin, gguf;"
        "from inferflux_core.config.schema import ModelConfig, RuntimeConfig;"
        "from inferflux_runner_torch import load;"
        "from inferflux_core.errors import ModelLoadError\n"
        "try: load(ModelConfig(path='missing'), RuntimeConfig(), device='cpu')\n"
        "except ModelLoadError: pass\n"
        "import torch;"
        "print(torch.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **spec.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == core_count()
