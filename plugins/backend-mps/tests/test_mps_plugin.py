"""The `mps` plugin as the server meets it: through its entry point."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import pytest
from support.hf_folders import tiny_folder
from support.runners import fake_torch_runner, model_folder

from inferflux_backend_mps.plugin import gpu_layers, load
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.errors import ModelLoadError
from inferflux_core.specs import BackendSpec

WITH_METAL = frozenset({"cpu", "metal"})


@pytest.fixture
def spec() -> BackendSpec:
    (entry,) = entry_points(group="inferflux.backends", name="mps")
    (declared,) = entry.load().inferflux_backends()
    return declared


def test_the_probe_of_this_machine_gives_its_reason(spec: BackendSpec) -> None:
    probe = spec.probe()
    assert probe.reason
    assert probe.devices or not probe.available


def test_declaring_and_probing_load_no_model_library() -> None:
    code = (
        "import sys, inferflux_backend_mps.plugin as plugin;"
        "[spec.probe() for spec in plugin.inferflux_backends()];"
        "sys.exit(not {'llama_cpp', 'mlx', 'mlx_lm'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("configured", "layers"), [(None, -1), (0, 0), (12, 12)])
def test_all_layers_go_to_the_gpu_unless_configured(configured: int | None, layers: int) -> None:
    assert gpu_layers(RuntimeConfig(mps_layers=configured)) == layers


def test_files_reach_llama_cpp(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelLoadError, match=r"broken\.gguf") as caught:
        load(ModelConfig(path=str(broken)), RuntimeConfig(), libraries=WITH_METAL, mlx=True)
    assert "Metal" not in caught.value.message


def test_files_never_run_on_the_processor(tmp_path: Path) -> None:
    """MLX made the probe content; llama.cpp was built without Metal."""
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError, match="was built without Metal") as caught:
        load(ModelConfig(path=str(model)), RuntimeConfig(), libraries=frozenset({"cpu"}), mlx=True)
    assert "CMAKE_ARGS=-DGGML_METAL=on" in (caught.value.hint or "")


@pytest.mark.parametrize("runner", ["auto", "mlx"])
def test_folders_go_to_mlx_where_it_is_installed(
    tmp_path: Path, runner: Literal["auto", "mlx"]
) -> None:
    """As far as that goes without a Mac: MLX is asked, and finds no GPU."""
    path = str(tiny_folder(tmp_path / "model", "LlamaForCausalLM", model_type="llama"))
    runtime = RuntimeConfig(runner=runner)
    with pytest.raises(ModelLoadError, match="MLX finds no Metal GPU"):
        load(ModelConfig(path=path), runtime, libraries=frozenset(), mlx=True)


def test_mlx_that_is_asked_for_and_not_there_is_named(tmp_path: Path) -> None:
    path = str(model_folder(tmp_path / "model"))
    with pytest.raises(ModelLoadError, match="not installed") as caught:
        load(ModelConfig(path=path), RuntimeConfig(runner="mlx"), libraries=WITH_METAL, mlx=False)
    assert caught.value.hint == "pip install 'inferflux-backend-mps[mlx]'"


def test_folders_go_to_the_torch_runner(
    spec: BackendSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_runner = fake_torch_runner(monkeypatch)
    path = str(model_folder(tmp_path / "model"))
    assert spec.factory(ModelConfig(path=path), RuntimeConfig()) == "a torch runner"
    (call,) = torch_runner.loaded
    assert (call["path"], call["device"]) == (path, "mps")
    assert call["details"] == {"runner_choice": "the model is a folder with safetensors"}


def test_the_crash_hint_tells_how_to_build(spec: BackendSpec) -> None:
    assert spec.crash_hint is not None
    assert "CMAKE_ARGS=-DGGML_METAL=on pip install" in spec.crash_hint
