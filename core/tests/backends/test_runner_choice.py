"""Which runner gets a model."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Literal

import pytest
from support.runners import fake_torch_runner, model_folder, without_torch_runner

from inferflux_core.backends.runner_choice import (
    choose_runner,
    has_torch_library,
    model_formats,
)
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.errors import ModelLoadError

Wanted = Literal["auto", "llamacpp", "torch", "mlx"]
DISTRIBUTION = "inferflux-backend-cpu"


@pytest.fixture
def gguf(tmp_path: Path) -> str:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    return str(file)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(model_folder(tmp_path / "model"))


@pytest.mark.parametrize(
    ("kind", "wanted", "runner", "reason"),
    [
        ("gguf", "auto", "llamacpp", "the model is a GGUF file"),
        ("gguf", "llamacpp", "llamacpp", "runtime.runner is llamacpp"),
        ("gguf", "torch", "torch", "runtime.runner is torch"),
        ("folder", "auto", "torch", "the model is a folder with safetensors"),
        ("folder", "torch", "torch", "the model is a folder with safetensors"),
    ],
)
def test_files_decide_unless_the_configuration_does(
    kind: str,
    wanted: Wanted,
    runner: str,
    reason: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake_torch_runner(monkeypatch)
    path = request.getfixturevalue(kind)
    with caplog.at_level(logging.INFO, "inferflux.backends"):
        choice = choose_runner(ModelConfig(path=path), RuntimeConfig(runner=wanted), DISTRIBUTION)
    assert (choice.runner, choice.details) == (runner, {"runner_choice": reason})
    assert caplog.messages == [f"{Path(path).name}: runner {runner}: {reason}"]


def test_llama_cpp_does_not_read_folders(folder: str) -> None:
    with pytest.raises(ModelLoadError, match=r"llama\.cpp reads GGUF files") as caught:
        choose_runner(ModelConfig(path=folder), RuntimeConfig(runner="llamacpp"), DISTRIBUTION)
    assert "runtime.runner" in (caught.value.hint or "")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused(folder: str, missing: str) -> None:
    (Path(folder) / missing).unlink()
    with pytest.raises(ModelLoadError, match=r"without safetensors, or without a config\.json"):
        choose_runner(ModelConfig(path=folder), RuntimeConfig(), DISTRIBUTION)


def test_without_the_torch_runner_the_error_says_how_to_install_it(
    folder: str, gguf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_torch_runner(monkeypatch)
    for path, wanted in ((folder, "auto"), (gguf, "torch")):
        with pytest.raises(ModelLoadError, match="not installed") as caught:
            choose_runner(
                ModelConfig(path=path),
                RuntimeConfig(runner=wanted),  # type: ignore[arg-type]
                DISTRIBUTION,
            )
        assert caught.value.hint == "pip install 'inferflux-backend-cpu[torch]'"
    assert choose_runner(ModelConfig(path=gguf), RuntimeConfig(), DISTRIBUTION).runner == "llamacpp"


def test_backends_say_what_they_can_load(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torch_runner(monkeypatch)
    assert model_formats() == {"gguf", "safetensors"}
    without_torch_runner(monkeypatch)
    assert model_formats() == {"gguf"}


@pytest.mark.parametrize(
    ("wanted", "runner"), [("auto", "mlx"), ("mlx", "mlx"), ("torch", "torch")]
)
def test_mlx_gets_folders_where_it_is(
    folder: str, wanted: Wanted, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch_runner(monkeypatch)
    runtime = RuntimeConfig(runner=wanted)
    assert choose_runner(ModelConfig(path=folder), runtime, "x", mlx=True).runner == runner


def test_on_a_mac_without_either_the_one_to_install_is_mlx(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_torch_runner(monkeypatch)
    with pytest.raises(ModelLoadError, match="the mlx runner is needed") as caught:
        choose_runner(ModelConfig(path=folder), RuntimeConfig(), "inferflux-backend-mps", mlx=False)
    assert caught.value.hint == "pip install 'inferflux-backend-mps[mlx]'"
    fake_torch_runner(monkeypatch)
    choice = choose_runner(ModelConfig(path=folder), RuntimeConfig(), DISTRIBUTION, mlx=False)
    assert choice.runner == "torch"


def test_mlx_gets_nothing_else(folder: str, gguf: str) -> None:
    runtime = RuntimeConfig(runner="mlx")
    with pytest.raises(ModelLoadError, match="MLX runs model folders"):
        choose_runner(ModelConfig(path=gguf), runtime, DISTRIBUTION, mlx=True)
    with pytest.raises(ModelLoadError, match="not installed") as caught:
        choose_runner(ModelConfig(path=folder), runtime, "inferflux-backend-mps", mlx=False)
    assert caught.value.hint == "pip install 'inferflux-backend-mps[mlx]'"
    with pytest.raises(ModelLoadError, match="inferflux-backend-cpu has no such runner"):
        choose_runner(ModelConfig(path=folder), runtime, DISTRIBUTION)


def test_what_torch_was_built_for_is_seen_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "torch" / "lib" / "libtorch_cuda.so").touch()
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    fake_torch_runner(monkeypatch)
    assert has_torch_library("torch_cuda")
    assert not has_torch_library("torch_hip")
    without_torch_runner(monkeypatch)
    assert not has_torch_library("torch_cuda")


@pytest.mark.parametrize("architecture", ["BertModel", "XLMRobertaForSequenceClassification"])
@pytest.mark.parametrize("mlx", [None, True, False])
def test_models_that_only_embed_or_rank_go_to_torch(
    folder: str, architecture: str, mlx: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch_runner(monkeypatch)
    (Path(folder) / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    choice = choose_runner(ModelConfig(path=folder), RuntimeConfig(), DISTRIBUTION, mlx=mlx)
    assert (choice.runner, choice.reason) == (
        "torch",
        "the model is a folder that only embeds or ranks",
    )
    if mlx is not None:
        with pytest.raises(ModelLoadError, match="MLX runs models that write"):
            choose_runner(
                ModelConfig(path=folder), RuntimeConfig(runner="mlx"), DISTRIBUTION, mlx=mlx
            )


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_models_that_write_go_to_mlx(
    folder: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch_runner(monkeypatch)
    (Path(folder) / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    choice = choose_runner(ModelConfig(path=folder), RuntimeConfig(), DISTRIBUTION, mlx=True)
    assert choice.runner == "mlx"
