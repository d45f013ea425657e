from __future__ import annotations

import time
from typing import Any

import pytest
from oidc_fakes import AUDIENCE, Issuer

from inferflux_core.testing import AuthContract


class TestOIDC(AuthContract):
    plugin_name = "oidc"

    @pytest.fixture
    def options(self, issuer: Issuer) -> dict[str, Any]:
        return {"issuer": issuer.url, "audience": AUDIENCE}

    @pytest.fixture
    def credential(self, issuer: Issuer) -> str:
        now = int(time.time())
        return issuer.token(iat=now, exp=now + 300)
