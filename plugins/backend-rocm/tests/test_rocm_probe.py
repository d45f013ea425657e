"""What the `rocm` backend says about a machine, from a made-up sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferflux_backend_rocm.probing import probe_rocm
from inferflux_backend_rocm.topology import gpu_names

WITH_HIP = frozenset({"base", "cpu", "hip"})


def add_node(nodes: Path, index: int, *, name: str, simds: int, target: int) -> Path:
    folder = nodes / str(index)
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "properties").write_text(
        f"cpu_cores_count {0 if simds else 8}\nsimd_count {simds}\ngfx_target_version {target}\n"
    )
    return folder


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """A processor and two GPUs."""
    folder = tmp_path / "nodes"
    add_node(folder, 0, name="", simds=0, target=0)
    add_node(folder, 1, name="navi31", simds=192, target=110000)
    add_node(folder, 10, name="aldebaran", simds=416, target=90010)
    return folder


@pytest.fixture
def kfd(tmp_path: Path) -> Path:
    path = tmp_path / "kfd"
    path.touch()
    return path


def test_gpus_are_named_and_processors_left_out(nodes: Path) -> None:
    assert gpu_names(nodes) == ("navi31 (gfx1100)", "aldebaran (gfx90a)")


def test_a_node_that_cannot_be_read_is_left_out(nodes: Path) -> None:
    (nodes / "1" / "properties").unlink()
    assert gpu_names(nodes) == ("aldebaran (gfx90a)",)


def test_a_device_with_access_and_a_build_make_it_available(nodes: Path, kfd: Path) -> None:
    probe = probe_rocm(libraries=WITH_HIP, kfd=kfd, nodes=nodes)
    assert probe.available
    assert probe.reason == "ROCm: navi31 (gfx1100), aldebaran (gfx90a)"


def test_a_torch_for_rocm_is_enough(nodes: Path, kfd: Path) -> None:
    libraries = frozenset({"cpu"})
    assert probe_rocm(libraries=libraries, torch=True, kfd=kfd, nodes=nodes).available
    assert not probe_rocm(libraries=libraries, torch=True, kfd=kfd / "no", nodes=nodes).available


def test_a_build_without_rocm_is_named_with_its_remedy(nodes: Path, kfd: Path) -> None:
    probe = probe_rocm(libraries=frozenset({"cpu"}), kfd=kfd, nodes=nodes)
    assert not probe.available
    assert "CMAKE_ARGS=-DGGML_HIP=on pip install" in probe.reason


def test_a_missing_device_file_is_named(nodes: Path, tmp_path: Path) -> None:
    probe = probe_rocm(libraries=WITH_HIP, kfd=tmp_path / "nothing", nodes=nodes)
    assert not probe.available
    assert "--device /dev/kfd" in probe.reason


def test_without_a_driver_it_says_so(tmp_path: Path, kfd: Path) -> None:
    probe = probe_rocm(libraries=WITH_HIP, kfd=kfd, nodes=tmp_path / "nothing")
    assert not probe.available
    assert probe.devices == ()
    assert probe.reason.startswith("no AMD GPU that ROCm can use")
