"""`python -m inferflux_gguf.convert`: all or nothing, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.hf_folders import tiny_folder

from inferflux_core.errors import ModelLoadError
from inferflux_gguf import to_folder
from inferflux_gguf.convert import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "hf", "LlamaForCausalLM")


@pytest.fixture
def file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main([str(folder), str(tmp_path / "m.gguf")]) == 0
    capsys.readouterr()
    return tmp_path / "m.gguf"


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_there_and_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "m.gguf"
    assert main([str(folder), str(target), "--json"]) == 0
    size = target.stat().st_size
    told = json.loads(capsys.readouterr().out)
    assert told == {"ok": True, "target": str(target), "weights": "F16", "bytes": size}
    assert main([str(target), str(tmp_path / "back")]) == 0
    out, err = capsys.readouterr()
    assert (out.partition(":")[0], err) == (f"{tmp_path / 'back'} written", "")
    assert "weights BF16" in out
    assert names(tmp_path / "back") == to_folder.FILES
    assert names(tmp_path) == {"hf", "m.gguf", "back"}  # nothing else is left


@pytest.mark.parametrize("which", ["file", "folder"])
def test_nothing_is_replaced_unless_it_is_asked_for(
    which: str, file: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = (folder, file) if which == "file" else (file, tmp_path / "back")
    assert main([str(source), str(target), *([] if which == "folder" else ["--force"])]) == 0
    before = target.stat()
    capsys.readouterr()
    assert main([str(source), str(target)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert target.stat() == before
    assert main([str(source), str(target), "--force"]) == 0
    assert target.stat().st_ino != before.st_ino


def test_a_folder_with_other_files_is_never_replaced(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").touch()
    assert main([str(file), str(tmp_path / "work"), "--force"]) == 1
    assert "'thesis.tex'" in capsys.readouterr().err
    assert names(tmp_path / "work") == {"thesis.tex"}


def test_a_link_to_a_folder_is_never_replaced(file: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert main([str(file), str(tmp_path / "link"), "--force"]) == 1
    assert names(tmp_path / "real") == set()


@pytest.mark.parametrize(
    "error", [ModelLoadError("no", hint="try"), OSError("full"), KeyboardInterrupt()]
)
def test_what_fails_leaves_everything_as_it_was(
    error: BaseException,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(file), str(tmp_path / "back")]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "back").iterdir()}
    capsys.readouterr()

    def fail(source: Path, target: Path, *rest: object) -> None:
        (target / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(to_folder, "convert", fail)
    status = main([str(file), str(tmp_path / "back"), "--force", "--json"])
    out = capsys.readouterr().out
    if isinstance(error, KeyboardInterrupt):
        assert (status, out) == (130, "")
    else:
        assert status == 1
        assert json.loads(out)["ok"] is False
    assert {path: path.read_bytes() for path in (tmp_path / "back").iterdir()} == before
    assert names(tmp_path) == {"hf", "m.gguf", "back"}


@pytest.mark.parametrize(
    ("source", "target", "options", "reason"),
    [
        ("hf", "model", [], "let the name of the target end in .gguf"),
        ("hf", "new.gguf", ["--dtype", "f32"], "leave out --dtype"),
        ("m.gguf", "new.gguf", [], "give the target the name of a folder"),
        ("m.gguf", "there/is/none", [], "make it first"),
        ("none.gguf", "model", [], "SOURCE is a path"),
        ("pkg://none/none.gguf", "model", [], "none"),
        ("hf/config.json", "model", [], "not a GGUF file"),
    ],
)
def test_what_makes_no_sense_is_refused_with_advice(
    source: str,
    target: str,
    options: list[str],
    reason: str,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([source, target, *options]) == 1
    out, err = capsys.readouterr()
    assert (out, reason in err) == ("", True), err
    assert names(tmp_path) == {"hf", "m.gguf"}
