"""`convert` and `quantize` hand over to the server's own modules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

_SCRIPT = "import json, sys; print(json.dumps([__spec__.name, *sys.argv[1:]])); sys.exit(1)"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Stand-ins for the packages, to be put in front of installed ones."""
    for package, module in (
        ("inferflux_gguf", "convert"),
        ("inferflux_runner_llamacpp", "quantize"),
    ):
        folder = tmp_path / "site" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / f"{module}.py").write_text(_SCRIPT)
    return tmp_path / "site"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (("convert", "a.gguf", "b"), ["inferflux_gguf.convert", "a.gguf", "b"]),
        (
            ("convert", "a.gguf", "b", "--dtype", "f32", "--force", "--output", "json"),
            ["inferflux_gguf.convert", "--dtype=f32", "--force", "a.gguf", "b", "--json"],
        ),
        (
            ("quantize", "--type", "q4_k_m", "--", "-a", "-b.gguf"),
            ["inferflux_runner_llamacpp.quantize", "--type=q4_k_m", "./-a", "./-b.gguf"],
        ),
    ],
)
def test_arguments_output_and_exit_code_pass_through(
    site: Path, inferctl_child, command: tuple[str, ...], arguments: list[str]
) -> None:
    done = inferctl_child(*command, PYTHONPATH=str(site))

    assert (done.code, done.err) == (1, "")
    assert json.loads(done.out) == arguments


def test_without_a_server_it_says_what_to_install(site: Path, inferctl_child) -> None:
    (site / "inferflux_runner_llamacpp" / "quantize.py").unlink()

    done = inferctl_child("quantize", "a", "b.gguf", "--type", "q8_0", PYTHONPATH=str(site))

    assert (done.code, done.out) == (1, "")
    assert 'pip install "inferflux[cpu]"' in done.err


@pytest.mark.parametrize("command", [("convert", "a"), ("quantize", "a", "b.gguf"), ("convert",)])
def test_what_is_missing_is_wrong_usage(inferctl, command: tuple[str, ...]) -> None:
    assert inferctl(*command).code == 2
