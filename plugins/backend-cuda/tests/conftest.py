"""A CUDA driver made of C, so that the real calls are made without a GPU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = """
#include <stdio.h>
int cuInit(unsigned flags) { return flags == 0 ? INIT_RESULT : 1; }
int cuDeviceGetCount(int *count) { *count = DEVICES; return 0; }
int cuDeviceGet(int *device, int index) { *device = 40 + index; return index < DEVICES ? 0 : 101; }
int cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, size, "Fake GPU %d", device - 40);
    return 0;
}
int cuGetErrorString(int code, const char **text) {
    if (code != 100) return 1;
    *text = "no CUDA-capable device is detected";
    return 0;
}
"""


@pytest.fixture
def fake_driver(tmp_path: Path) -> Callable[..., str]:
    """Returns `build(devices=..., init_result=...)`, which returns the library's path."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler for the fake driver")

    def build(*, devices: int = 1, init_result: int = 0) -> str:
        library = tmp_path / f"libfakecuda-{devices}-{init_result}.so"
        definitions = [f"-DDEVICES={devices}", f"-DINIT_RESULT={init_result}"]
        subprocess.run(
            [compiler, "-shared", "-fPIC", *definitions, "-x", "c", "-", "-o", str(library)],
            input=SOURCE,
            text=True,
            check=True,
        )
        return str(library)

    return build
