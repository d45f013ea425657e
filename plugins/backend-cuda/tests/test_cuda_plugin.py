"""The `cuda` plugin as the server meets it: through its entry point."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from support.runners import fake_torch_runner, model_folder

from inferflux_backend_cuda.plugin import gpu_layers, load
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.errors import ModelLoadError
from inferflux_core.specs import BackendSpec


@pytest.fixture
def spec() -> BackendSpec:
    (entry,) = entry_points(group="inferflux.backends", name="cuda")
    (declared,) = entry.load().inferflux_backends()
    return declared


def test_the_probe_of_this_machine_gives_its_reason(spec: BackendSpec) -> None:
    probe = spec.probe()
    assert probe.reason
    assert probe.devices or not probe.available


def test_declaring_and_probing_load_no_model_library() -> None:
    code = (
        "import sys, inferflux_backend_cuda.plugin as plugin;"
        "[spec.probe() for spec in plugin.inferflux_backends()];"
        "sys.exit('llama_cpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("configured", "layers"), [(None, -1), (0, 0), (12, 12)])
def test_all_layers_go_to_the_gpu_unless_configured(configured: int | None, layers: int) -> None:
    assert gpu_layers(RuntimeConfig(gpu_layers=configured)) == layers


def test_gguf_files_go_to_llama_cpp(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelLoadError, match=r"broken\.gguf"):
        load(ModelConfig(path=str(broken)), RuntimeConfig(), libraries=frozenset({"cuda"}))


def test_llama_cpp_never_computes_on_the_processor_instead(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError, match="was built without CUDA"):
        load(ModelConfig(path=str(file)), RuntimeConfig(), libraries=frozenset({"cpu"}))


def test_folders_go_to_the_torch_runner(
    spec: BackendSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_runner = fake_torch_runner(monkeypatch)
    path = str(model_folder(tmp_path / "model"))
    assert spec.factory(ModelConfig(path=path), RuntimeConfig()) == "a torch runner"
    (call,) = torch_runner.loaded
    assert (call["path"], call["device"]) == (path, "cuda")
    assert call["details"] == {"runner_choice": "the model is a folder with safetensors"}


def test_the_crash_hint_tells_how_to_build(spec: BackendSpec) -> None:
    assert spec.crash_hint is not None
    assert "CMAKE_ARGS=-DGGML_CUDA=on pip install" in spec.crash_hint
