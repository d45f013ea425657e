"""Our distributions, as their manifests describe them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Distribution:
    """One folder with a pyproject.toml."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["project"]["name"])

    @property
    def import_name(self) -> str:
        return self.name.replace("-", "_")


def _read(folder: Path) -> Distribution:
    return Distribution(folder, tomllib.loads((folder / "pyproject.toml").read_text()))


@pytest.fixture(scope="session")
def root() -> Distribution:
    """The metadata-only distribution `inferflux`."""
    return _read(_ROOT)


@pytest.fixture(scope="session")
def members() -> dict[str, Distribution]:
    """Every distribution that holds code, by name."""
    patterns = ("core", "api", "cli", "runners/*", "plugins/*")
    manifests = [path for p in patterns for path in sorted(_ROOT.glob(f"{p}/pyproject.toml"))]
    found = [_read(path.parent) for path in manifests]
    return {distribution.name: distribution for distribution in found}
