"""What the `cpu` backend says about a processor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inferflux_backend_cpu.probing import probe_cpu

CPUINFO = """\
processor\t: 0
model name\t: Fake Xeon 9000
flags\t\t: fpu sse2 avx2 avx512f amx_int8

processor\t: 1
model name\t: Fake Xeon 9000
flags\t\t: fpu sse2
"""


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    return path


def test_it_names_model_cores_and_useful_instructions(cpuinfo: Path) -> None:
    probe = probe_cpu(libraries=frozenset({"base", "cpu"}), cores=2, cpuinfo=cpuinfo)
    assert probe.available
    assert probe.devices == ("Fake Xeon 9000, 2 cores",)
    assert probe.reason == "Fake Xeon 9000, 2 cores: amx_int8, avx512f, avx2"


def test_a_build_with_several_variants_will_do(cpuinfo: Path) -> None:
    assert probe_cpu(libraries=frozenset({"cpu-zen4"}), cores=1, cpuinfo=cpuinfo).available


def test_without_llama_cpp_it_says_what_to_install(cpuinfo: Path) -> None:
    probe = probe_cpu(libraries=frozenset(), cores=2, cpuinfo=cpuinfo)
    assert not probe.available
    assert "pip install llama-cpp-python" in probe.reason


def test_a_system_without_cpuinfo_still_has_a_name(tmp_path: Path) -> None:
    probe = probe_cpu(libraries=frozenset({"cpu"}), cores=1, cpuinfo=tmp_path / "missing")
    assert probe.available
    assert probe.reason.endswith("1 core")
    assert not probe.reason.startswith(",")


def test_only_cores_this_process_may_use_are_counted() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from inferflux_core.processors import core_count; print(core_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
