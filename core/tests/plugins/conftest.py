"""Installed plugins, faked with real metadata: a dist-info folder and a module on `sys.path`."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inferflux_core.plugins import discovery

Install = Callable[..., None]

VALID = """
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import SchedulerSpec

@hookimpl
def inferflux_schedulers():
    yield SchedulerSpec(name={name!r}, summary="A fake", factory=print)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution that offers one plugin: `install("lifo", source)`.

    Without source, the plugin is a scheduler that works.

    The module is called `fake_<name>`; with several distributions of one name, the last one's code is
    what is imported, as in real life.
    """
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def write(
        name: str,
        source: str | None = None,
        *,
        group: str = "inferflux.schedulers",
        distribution: str | None = None,
        version: str = "0.3",
        value: str | None = None,
        also: str = "",
    ) -> None:
        module = f"fake_{name}"
        (site / f"{module}.py").write_text(
            VALID.format(name=name) if source is None else textwrap.dedent(source)
        )
        distribution = distribution or f"acme-{name}"
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value or module}\n{also}")
        importlib.invalidate_caches()
        discovery.refresh()

    yield write
    discovery.refresh()
    for module in set(sys.modules) - before:
        if module.startswith("fake_"):
            del sys.modules[module]


@pytest.fixture
def only_fakes(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """As `install`, with nothing else installed but the standard library."""
    kept = [entry for entry in sys.path if not list(Path(entry or ".").glob("*.dist-info"))]
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *kept])
    return install
