"""`python -m inferflux_runner_llamacpp.quantize`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.hf_folders import tiny_folder

from inferflux_core.specs import FileRecipe
from inferflux_gguf.check import check_gguf
from inferflux_gguf.to_gguf import convert
from inferflux_runner_llamacpp import make_file
from inferflux_runner_llamacpp.quantize import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "hf", "LlamaForCausalLM")


def test_a_folder_and_its_gguf_file_are_quantized_alike(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(folder, tmp_path / "m.gguf", lambda share: None)
    targets = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    for source, target in zip((folder, tmp_path / "m.gguf"), targets, strict=True):
        assert main([str(source), str(target), "--type", "Q8_0", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["ok"]
        assert (told["weights"], told["bytes"]) == ("Q8_0", target.stat().st_size)
        assert check_gguf(target).quantization == "Q8_0"
    assert targets[0].read_bytes() == targets[1].read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"hf", "m.gguf", "a.gguf", "b.gguf"}


def test_the_share_that_is_done_never_falls(folder: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    make_file(FileRecipe(folder, tmp_path / "q.gguf", "q4_0"), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len([share for share in shares if 0.5 < share < 1]) > 10  # while it quantizes


@pytest.mark.parametrize(
    ("source", "target", "kind", "reason"),
    [
        ("hf", "q.gguf", "q9_9", "choose one of F16"),
        ("hf", "q", "q8_0", "end in .gguf"),
        ("q8.gguf", "q.gguf", "q4_0", "begin from a file with F16"),
        ("none", "q.gguf", "q8_0", "SOURCE is a path"),
        ("hf", "q8.gguf", "q8_0", "--force"),
    ],
)
def test_what_cannot_be_quantized_is_refused_with_advice(
    source: str,
    target: str,
    kind: str,
    reason: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_file(FileRecipe(folder, tmp_path / "q8.gguf", "q8_0"), lambda share: None)
    assert main([source, target, "--type", kind]) == 1
    out, err = capsys.readouterr()
    assert (out, reason in err) == ("", True), err
    assert {path.name for path in tmp_path.iterdir()} == {"hf", "q8.gguf"}
