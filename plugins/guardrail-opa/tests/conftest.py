from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.policy_servers import PolicyServer, policy_server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with policy_server() as running:
        yield running
