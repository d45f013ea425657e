from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be bound here")
def test_cores_are_remembered_when_a_library_takes_them() -> None:
    code = (
        "import os, inferflux_core.processors as p;"
        "before = os.sched_getaffinity(0);"
        "os.sched_setaffinity(0, {min(before)});"
        "assert p.core_count() == len(before);"
        "p.use_all_cores();"
        "assert os.sched_getaffinity(0) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
