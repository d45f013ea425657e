"""The example on the page of each kind of plugin keeps the contract of that kind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.pages import ROOT, blocks


def install(page: Path, folder: Path) -> None:
    """Write the blocks of a page to files: modules by the name they begin with, and metadata."""
    groups: dict[str, dict[str, str]] = {}
    for block in blocks(page):
        if block.language == "toml":
            groups |= tomllib.loads(block.text)["project"]["entry-points"]
        if block.language == "python":
            name = re.match(r'"""(\w+\.py)"""\n', block.text)
            assert name, f"{block} does not begin with the name of its file"
            (folder / name[1]).write_text(block.text)
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("page", ["schedulers.md", "guardrails.md", "auth.md"])
def test_the_example_passes_its_contract(page: str, tmp_path: Path) -> None:
    install(ROOT / "docs" / "plugins" / page, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "test_contract.py"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
