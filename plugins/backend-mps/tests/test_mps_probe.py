"""What the `mps` backend says about a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferflux_backend_mps.probing import probe_mps

WITH_METAL = frozenset({"base", "cpu", "metal"})


@pytest.fixture
def sysctl(tmp_path: Path) -> str:
    """A program that answers as macOS's does."""
    program = tmp_path / "sysctl"
    program.write_text('#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo "Apple M9"\n')
    program.chmod(0o755)
    return str(program)


def test_apple_silicon_with_a_metal_build_is_available(sysctl: str) -> None:
    probe = probe_mps(
        libraries=WITH_METAL, mlx=False, system="Darwin", machine="arm64", sysctl=sysctl
    )
    assert probe.available
    assert probe.devices == ("Apple M9",)
    assert probe.reason == "Metal: Apple M9, with llama.cpp"


def test_a_build_without_metal_is_named_with_its_remedy(sysctl: str) -> None:
    probe = probe_mps(
        libraries=frozenset({"cpu"}), mlx=False, system="Darwin", machine="arm64", sysctl=sysctl
    )
    assert not probe.available
    assert "CMAKE_ARGS=-DGGML_METAL=on pip install" in probe.reason


@pytest.mark.parametrize(
    ("libraries", "names"), [(WITH_METAL, "llama.cpp and MLX"), (frozenset({"cpu"}), "MLX")]
)
def test_mlx_alone_is_enough(sysctl: str, libraries: frozenset[str], names: str) -> None:
    probe = probe_mps(
        libraries=libraries, mlx=True, system="Darwin", machine="arm64", sysctl=sysctl
    )
    assert probe.available
    assert probe.reason == f"Metal: Apple M9, with {names}"


@pytest.mark.parametrize(
    ("system", "machine", "reason"),
    [
        ("Linux", "x86_64", "Metal needs macOS on Apple silicon; this is Linux"),
        ("Linux", "arm64", "Metal needs macOS on Apple silicon; this is Linux"),
        ("Darwin", "x86_64", "Metal needs Apple silicon and an arm64 Python; this one is x86_64"),
    ],
)
def test_other_machines_are_told_why(system: str, machine: str, reason: str) -> None:
    probe = probe_mps(libraries=WITH_METAL, mlx=True, system=system, machine=machine)
    assert (probe.available, probe.reason) == (False, reason)


def test_a_chip_that_cannot_be_asked_is_still_apple_silicon(tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing")
    probe = probe_mps(
        libraries=WITH_METAL, mlx=False, system="Darwin", machine="arm64", sysctl=missing
    )
    assert probe.devices == ("Apple silicon",)
