"""The `mlx-cpu` plugin as the server meets it: through its entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from inferflux_backend_mlx_cpu.plugin import probe_mlx_cpu
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.errors import ModelLoadError
from inferflux_core.specs import BackendSpec
from inferflux_runner_mlx.installation import MlxInstallation


@pytest.fixture
def spec() -> BackendSpec:
    (entry,) = entry_points(group="inferflux.backends", name="mlx-cpu")
    (declared,) = entry.load().inferflux_backends()
    return declared


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    probe = probe_mlx_cpu(MlxInstallation(("mlx", "mlx_lm"), metal=False))
    assert not probe.available
    assert probe.reason == 'missing: mlx, mlx_lm; run: pip install "inferflux-backend-mlx-cpu[mlx]"'


def test_it_says_that_it_is_no_gpu(spec: BackendSpec) -> None:
    probe = spec.probe()
    assert probe.available
    assert "on the processor" in probe.reason
    assert probe.devices == ("the processor",)


def test_it_has_no_other_runner(spec: BackendSpec, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no runner but mlx"):
        spec.factory(ModelConfig(path=str(tmp_path)), RuntimeConfig(runner="torch"))


def test_files_are_refused(spec: BackendSpec, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError, match=r"model\.gguf is no model folder"):
        spec.factory(ModelConfig(path=str(model)), RuntimeConfig())
