"""The set-up scripts: what they build once, and what they say when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.packaging.conftest import Distribution

FAKE_PIP = """\
#!/bin/sh
# A Python whose `pip wheel` prints what Ninja prints and leaves a wheel, or fails if told so.
case "$*" in
*"pip wheel"*)
    echo "  [1/2] /usr/bin/g++ -O3 -o ggml.cpp.o -c /somewhere/ggml.cpp"
    echo "flags: $CMAKE_ARGS"
    [ -n "$FAIL" ] && { echo "ggml.cpp:1: error: no such thing"; exit 1; }
    while [ "$1" != "--wheel-dir" ]; do shift; done
    touch "$2/llama_cpp_python-0.3.36-py3-none-any.whl" ;;
*"import llama_cpp"*) kill -ILL $$ ;;
*) exec "$REAL_PYTHON" "$@" ;;
esac
"""


class Shell:
    """Calls functions of lib.sh with a fake Python and a cache of its own."""

    def __init__(self, lib: Path, folder: Path) -> None:
        self.lib = lib
        self.cache = folder / "cache"
        self.venv = folder / "venv"
        self.programs = folder / "bin"
        python = self.venv / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(FAKE_PIP)
        python.chmod(0o755)

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f'source "{self.lib}"; VENV="{self.venv}"; {script}'],
            env={
                "HOME": str(self.cache),
                "PATH": os.environ["PATH"],
                "XDG_CACHE_HOME": str(self.cache),
                "REAL_PYTHON": sys.executable,
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def only_with(self, *programs: str) -> str:
        """A PATH on which nothing but these programs can be found."""
        self.programs.mkdir(exist_ok=True)
        for name in programs:
            (self.programs / name).symlink_to(str(shutil.which(name)))
        return str(self.programs)


@pytest.fixture
def shell(root: Distribution, tmp_path: Path) -> Shell:
    return Shell(root.folder / "scripts" / "lib.sh", tmp_path)


def test_a_build_is_kept_under_its_flags_and_processor(shell: Shell) -> None:
    plain = shell.run("llama_wheel_folder").stdout
    assert plain == shell.run("llama_wheel_folder").stdout
    assert plain.startswith(str(shell.cache / "inferflux" / "wheels"))
    assert plain != shell.run("llama_wheel_folder", CMAKE_ARGS="-DGGML_CUDA=on").stdout
    other_cpu = "cpu_identity() { echo another; }; llama_wheel_folder"
    assert plain != shell.run(other_cpu).stdout


def test_the_users_cmake_arguments_come_last_and_so_win(shell: Shell) -> None:
    assert shell.run("llama_cmake_args", CMAKE_ARGS="-DX=1").stdout.strip().endswith("-DX=1")


def test_a_build_shows_its_steps_and_leaves_one_wheel(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    built = shell.run(f'check_compiler() {{ :; }}; build_llama_wheel "{folder}"')
    assert built.returncode == 0, built.stderr
    assert "  [1/2] ggml.cpp\n" in built.stdout
    assert sorted(path.suffix for path in folder.iterdir()) == [".log", ".whl"]


def test_a_failed_build_shows_the_log_and_leaves_no_wheel(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    built = shell.run(f'check_compiler() {{ :; }}; build_llama_wheel "{folder}"', FAIL="1")
    assert built.returncode == 1
    assert "ggml.cpp:1: error: no such thing" in built.stderr
    assert f"The whole log: {folder}/build.log" in built.stderr
    assert [path.name for path in folder.iterdir()] == ["build.log"]


def test_a_library_for_another_cpu_is_found_before_the_server_starts(shell: Shell) -> None:
    probed = shell.run('probe_llama "/a folder"')
    assert probed.returncode == 1
    assert "signal ILL" in probed.stderr
    assert "rm -rf '/a folder'" in probed.stderr


def test_a_missing_compiler_is_named_with_what_to_install(shell: Shell) -> None:
    path = shell.only_with("bash", "dirname", "sed")
    checked = shell.run("check_compiler", PATH=path)
    assert checked.returncode == 1
    assert "sudo apt-get install build-essential cmake" in checked.stderr


def test_a_missing_python_is_named_with_what_to_install(shell: Shell) -> None:
    path = shell.only_with("bash", "dirname", "sed")
    found = shell.run("find_python", PATH=path)
    assert found.returncode == 1
    assert "sudo apt-get install python3 python3-venv" in found.stderr


def test_a_finished_environment_is_left_alone(shell: Shell) -> None:
    script = 'echo "$(environment_stamp "$(llama_wheel_folder)")" >"$VENV/.inferflux-runtime"; '
    again = shell.run(script + "ensure_runtime")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
