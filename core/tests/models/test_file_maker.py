"""Files that backends make, in a process that may be lost."""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path

import pytest

from inferflux_core.errors import InvalidRequestError
from inferflux_core.models.file_maker import make_file
from inferflux_core.plugins import PluginManager
from inferflux_core.specs import BackendSpec, FileRecipe


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> BackendSpec:
    support = Path(__file__).parents[3] / "tests/support/scripted"
    monkeypatch.setenv("PYTHONPATH", str(support))
    monkeypatch.syspath_prepend(str(support))
    (spec,) = import_module("inferflux_backend_scripted").inferflux_backends()
    assert isinstance(spec, BackendSpec)
    return spec


def made(backend: BackendSpec, folder: Path, word: str) -> list[float]:
    (folder / "source").write_text(word)
    recipe = FileRecipe(folder / "source", folder / "target", "Q8_0")

    async def collect() -> list[float]:
        return [share async for share in make_file(backend, recipe)]

    return asyncio.run(collect())


def test_a_file_is_made_and_progress_told(backend: BackendSpec, tmp_path: Path) -> None:
    assert made(backend, tmp_path, "good") == [0.5, 1.0]
    assert (tmp_path / "target").read_text() == "good as Q8_0"


@pytest.mark.parametrize(
    ("word", "problem"),
    [("bad", "this is bad"), ("full", "No space left"), ("crash", "ended with status -6")],
)
def test_what_goes_wrong_is_told(
    backend: BackendSpec, tmp_path: Path, word: str, problem: str
) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        made(backend, tmp_path, word)


def test_who_stops_listening_ends_the_process(backend: BackendSpec, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("slow")

    async def first() -> float:
        making = make_file(backend, FileRecipe(tmp_path / "source", tmp_path / "target", None))
        share = await anext(making)
        await making.aclose()
        return share

    assert asyncio.run(first()) == 0.5
    pid = int((tmp_path / "target").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_not_every_backend_makes_files(tmp_path: Path) -> None:
    stub = PluginManager(strict=True, trace=False).backend("stub")
    with pytest.raises(InvalidRequestError, match="neither converts nor quantizes"):
        made(stub, tmp_path, "good")
