"""Asks the CUDA driver which devices there are, without creating a context on any.

The calls are those of the CUDA Driver API reference: cuInit, cuDeviceGetCount, cuDeviceGetName.
"""

from __future__ import annotations

import ctypes

__all__ = ["DriverError", "device_names"]

_NAME_BYTES = 256


class DriverError(Exception):
    """The driver is installed and refused; the message is the driver's own."""


def device_names(library: str = "libcuda.so.1") -> tuple[str, ...]:
    """Name the CUDA devices this process may use.

    Args:
        library: the driver's library.

    Raises:
        OSError: there is no such library.
        DriverError: the driver reports an error, e.g. that it finds no device.
    """
    driver = ctypes.CDLL(library)
    _check(driver, driver.cuInit(0))
    count = ctypes.c_int(0)
    _check(driver, driver.cuDeviceGetCount(ctypes.byref(count)))
    return tuple(_name(driver, index) for index in range(count.value))


def _name(driver: ctypes.CDLL, index: int) -> str:
    device = ctypes.c_int(0)
    _check(driver, driver.cuDeviceGet(ctypes.byref(device), index))
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _check(driver, driver.cuDeviceGetName(name, _NAME_BYTES, device))
    return name.value.decode("utf-8", "replace")


def _check(driver: ctypes.CDLL, code: int) -> None:
    if code == 0:
        return
    text = ctypes.c_char_p()
    driver.cuGetErrorString(code, ctypes.byref(text))
    raise DriverError(text.value.decode("utf-8", "replace") if text.value else f"error {code}")
