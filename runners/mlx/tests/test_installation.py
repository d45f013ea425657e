"""How an installed MLX is recognised, by its files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inferflux_runner_mlx.installation import MlxInstallation, find_mlx


def install(folder: Path, *files: str) -> Path:
    """A folder like that of an installed MLX."""
    (folder / "lib").mkdir(parents=True)
    for name in files:
        (folder / "lib" / name).touch()
    return folder


@pytest.mark.parametrize(
    ("files", "missing", "metal"),
    [
        ((), ("libmlx",), False),
        (("libmlx.so",), (), False),
        (("libmlx.dylib", "mlx.metallib"), (), True),
        (("mlx.metallib",), ("libmlx",), False),
    ],
)
def test_builds_are_told_by_their_files(
    tmp_path: Path, files: tuple[str, ...], missing: tuple[str, ...], metal: bool
) -> None:
    folders = [str(install(tmp_path / "mlx", *files)), str(tmp_path / "elsewhere")]
    assert find_mlx(folders) == MlxInstallation(missing, metal)


def test_the_one_that_tests_run_with_is_found_and_not_loaded() -> None:
    code = (
        "import sys; from inferflux_runner_mlx.installation import find_mlx;"
        "print(find_mlx().missing, not {'mlx', 'mlx.core', 'mlx_lm'}.isdisjoint(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert answer.stdout.decode().strip() == "() False"
