"""What the `cuda` backend says about a machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inferflux_backend_cuda.driver import DriverError, device_names
from inferflux_backend_cuda.probing import probe_cuda

WITH_CUDA = frozenset({"base", "cpu", "cuda"})
WITHOUT_CUDA = frozenset({"base", "cpu"})


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """A folder of device files with one GPU."""
    folder = tmp_path / "dev"
    folder.mkdir()
    (folder / "nvidia0").touch()
    return folder


def test_the_driver_names_its_devices(fake_driver: Callable[..., str]) -> None:
    assert device_names(fake_driver(devices=2)) == ("Fake GPU 0", "Fake GPU 1")


def test_a_device_a_driver_and_a_build_make_it_available(
    fake_driver: Callable[..., str], dev: Path
) -> None:
    probe = probe_cuda(libraries=WITH_CUDA, driver=fake_driver(devices=2), dev=dev)
    assert probe.available
    assert probe.devices == ("Fake GPU 0", "Fake GPU 1")
    assert probe.reason == "CUDA: Fake GPU 0, Fake GPU 1"


def test_a_build_without_cuda_is_named_with_its_remedy(
    fake_driver: Callable[..., str], dev: Path
) -> None:
    probe = probe_cuda(libraries=WITHOUT_CUDA, driver=fake_driver(), dev=dev)
    assert not probe.available
    assert probe.devices == ("Fake GPU 0",)
    assert "CMAKE_ARGS=-DGGML_CUDA=on pip install" in probe.reason


def test_a_torch_for_cuda_is_enough(fake_driver: Callable[..., str], dev: Path) -> None:
    probe = probe_cuda(libraries=WITHOUT_CUDA, torch=True, driver=fake_driver(), dev=dev)
    assert probe.available


def test_without_a_driver_it_says_so(tmp_path: Path) -> None:
    probe = probe_cuda(libraries=WITH_CUDA, driver="libnonesuch.so.1", dev=tmp_path)
    assert not probe.available
    assert probe.reason.startswith("no NVIDIA driver on this machine")


def test_a_device_without_user_libraries_is_told_apart(dev: Path) -> None:
    probe = probe_cuda(libraries=WITH_CUDA, driver="libnonesuch.so.1", dev=dev)
    assert not probe.available
    assert "an NVIDIA device is here, but libnonesuch.so.1 cannot be loaded" in probe.reason


def test_a_container_without_the_gpu_is_told_apart(
    fake_driver: Callable[..., str], tmp_path: Path
) -> None:
    probe = probe_cuda(libraries=WITH_CUDA, driver=fake_driver(init_result=100), dev=tmp_path)
    assert not probe.available
    assert "no CUDA-capable device is detected" in probe.reason
    assert "--gpus all" in probe.reason


def test_no_device_is_not_available(fake_driver: Callable[..., str], dev: Path) -> None:
    probe = probe_cuda(libraries=WITH_CUDA, driver=fake_driver(devices=0), dev=dev)
    assert not probe.available
    assert probe.reason == "the CUDA driver reports no device"


def test_an_error_the_driver_cannot_put_in_words_keeps_its_number(
    fake_driver: Callable[..., str],
) -> None:
    with pytest.raises(DriverError, match="error 999"):
        device_names(fake_driver(init_result=999))


@pytest.mark.parametrize("present", [True, False])
def test_reasons_fit_one_line(
    fake_driver: Callable[..., str], dev: Path, tmp_path: Path, present: bool
) -> None:
    folder = dev if present else tmp_path / "empty"
    for driver in ("libnonesuch.so.1", fake_driver(), fake_driver(init_result=100)):
        assert "\n" not in probe_cuda(libraries=WITHOUT_CUDA, driver=driver, dev=folder).reason
