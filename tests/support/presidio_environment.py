"""Microsoft's Presidio, in an environment of its own, which is built on the first run (350 MB).

It stands behind ours on the module path: what both have is ours, as if it had been installed into it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENTS = ["presidio-analyzer==2.2.366"]
CONSTRAINTS = Path(__file__).parents[2] / "requirements" / "constraints.txt"

# Read by Python when it starts.
_SITE = "import sys\nsys.path.append({packages!r})\n"


def module_path(config: pytest.Config) -> Path:
    """A folder for PYTHONPATH that makes Presidio importable."""
    assert config.cache is not None
    folder = config.cache.mkdir("-".join(REQUIREMENTS).replace("==", "-"))
    venv, site, complete = folder / "venv", folder / "site", folder / "complete"
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run(
            [*pip, "--constraint", CONSTRAINTS, *REQUIREMENTS], check=True, capture_output=True
        )
        (packages,) = venv.glob("lib/python*/site-packages")
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(_SITE.format(packages=str(packages)))
        complete.touch()
    return site
