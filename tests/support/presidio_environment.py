"""Microsoft's Presidio, in an environment of its own, which is built on the first run (350 MB).

It stands behind ours on the module path: what both have is ours, as if it had been installed into it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.own_environment import own_environment

REQUIREMENTS = ["presidio-analyzer==2.2.366"]

# Read by Python when it starts.
_SITE = "import sys\nsys.path.append({packages!r})\n"


def module_path(config: pytest.Config) -> Path:
    """A folder for PYTHONPATH that makes Presidio importable."""
    venv = own_environment(config, REQUIREMENTS)
    (packages,) = venv.glob("lib/python*/site-packages")
    site = venv.with_name("site")
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITE.format(packages=str(packages)))
    return site
