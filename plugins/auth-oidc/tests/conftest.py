from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from oidc_fakes import Clock, Issuer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    fake = Issuer()
    yield fake
    fake.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()
