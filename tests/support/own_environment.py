"""Packages in an environment of their own, which is built on the first run and kept by pytest's cache."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

CONSTRAINTS = Path(__file__).parents[2] / "requirements" / "constraints.txt"


def own_environment(config: pytest.Config, requirements: Sequence[str]) -> Path:
    """A virtual environment with these packages, in the versions of our constraints where those name one."""
    assert config.cache is not None
    folder = config.cache.mkdir("-".join(requirements).replace("==", "-"))
    venv, complete = folder / "venv", folder / "complete"
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run(
            [*pip, "--constraint", CONSTRAINTS, *requirements], check=True, capture_output=True
        )
        complete.touch()
    return venv
