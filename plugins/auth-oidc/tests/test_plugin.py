from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from inferflux_auth_oidc.config import ALGORITHMS, OIDCConfig
from inferflux_auth_oidc.plugin import inferflux_auth_providers
from inferflux_auth_oidc.provider import OIDCProvider
from inferflux_core.errors import ConfigError

GOOD: dict[str, Any] = {"issuer": "https://login.example.com/realm", "audience": "inferflux"}


def test_it_registers_itself() -> None:
    (spec,) = inferflux_auth_providers()
    assert spec.name == "oidc"
    assert isinstance(spec.factory(msgspec.convert(GOOD, spec.config_type)), OIDCProvider)


def test_registration_loads_no_http_client() -> None:
    program = (
        "import inferflux_auth_oidc.plugin, sys; print({'httpx2', 'joserfc'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "issuer",
    [
        "https://x",
        "https://x:8443/a/b/",
        "http://localhost:1",
        "http://127.0.0.1",
        "http://[::1]:9",
    ],
)
def test_acceptable_issuers(issuer: str) -> None:
    OIDCProvider(OIDCConfig(issuer=issuer, audience="a"))


@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "login.example.com",
        "http://login.example.com",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://localhost@example.com",
        "https://",
        "https://user:password@x",
        "https://x?realm=1",
        "https://x#y",
        "https://x:port",
        "file:///etc/passwd",
        "https://[::1",
    ],
)
def test_other_issuers_are_refused(issuer: str) -> None:
    with pytest.raises(ConfigError, match="issuer"):
        OIDCProvider(OIDCConfig(issuer=issuer, audience="a"))


@pytest.mark.parametrize("algorithms", [[], ["none"], ["HS256"], ["RS256", "HS512"], ["rs256"]])
def test_algorithms_that_prove_nothing_are_refused(algorithms: list[str]) -> None:
    with pytest.raises(ConfigError, match="algorithms"):
        OIDCProvider(OIDCConfig(**GOOD, algorithms=algorithms))


def test_every_offered_algorithm_is_accepted() -> None:
    OIDCProvider(OIDCConfig(**GOOD, algorithms=sorted(ALGORITHMS)))


def test_an_empty_audience_is_refused() -> None:
    with pytest.raises(ConfigError, match="audience"):
        OIDCProvider(OIDCConfig(issuer=GOOD["issuer"], audience=""))


@pytest.mark.parametrize(
    "options",
    [
        {"issuer": "https://x"},
        {"audience": "x"},
        {**GOOD, "leeway": -1},
        {**GOOD, "leeway": 10_000},
        {**GOOD, "refetch_cooldown": 0},
        {**GOOD, "verify": False},
    ],
)
def test_options_are_validated(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, OIDCConfig)
