"""What a build can do is told from its files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inferflux_runner_llamacpp.library import build_command, ggml_libraries, library_folder


def test_the_installed_build_has_a_cpu_library() -> None:
    assert {"base", "cpu"} <= ggml_libraries()


def test_looking_does_not_load_the_library() -> None:
    code = (
        "import sys; from inferflux_runner_llamacpp.library import ggml_libraries;"
        "ggml_libraries(); sys.exit('llama_cpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["libggml.so", "libggml-base.so", "libggml-cuda.so.0.25.3"], {"base", "cuda"}),
        (["libggml-metal.dylib", "libggml-cpu.0.dylib"], {"metal", "cpu"}),
        (["ggml-hip.dll", "llama.dll"], {"hip"}),
        ([], set()),
    ],
)
def test_names_carry_no_prefix_version_or_suffix(
    tmp_path: Path, files: list[str], names: set[str]
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert ggml_libraries(tmp_path) == names


def test_the_override_that_llama_cpp_honours_is_honoured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    assert library_folder() == tmp_path
    assert ggml_libraries() == frozenset()


def test_the_build_command_survives_a_shell() -> None:
    command = build_command('-DCMAKE_CXX_FLAGS="-fno-tree-dse -fno-dse"')
    assignment = command.split(" pip install")[0]
    shown = subprocess.run(
        ["sh", "-c", f'{assignment}; echo "$CMAKE_ARGS"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == '-DCMAKE_CXX_FLAGS="-fno-tree-dse -fno-dse"'
