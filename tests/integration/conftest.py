from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import RunningServer, running_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    """One server with the scripted backend for a whole file."""
    with running_server(folder, {}) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()
