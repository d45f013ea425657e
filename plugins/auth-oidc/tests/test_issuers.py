"""Several issuers side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from oidc_fakes import AUDIENCE, EC, NOW, RSA, RSA_OTHER, UNTIL, Issuer, running, sign

from inferflux_auth_oidc.config import OIDCConfig
from inferflux_auth_oidc.provider import OIDCProvider
from inferflux_core.auth import Principal
from inferflux_core.errors import (
    AuthenticationError,
    AuthenticationUnavailableError,
    ConfigError,
)

pytestmark = pytest.mark.anyio

ASKED = {"client_id": "us", "client_secret": "secret"}


@pytest.fixture
def other() -> Iterator[Issuer]:
    fake = Issuer()
    fake.keys = [EC, RSA_OTHER]
    yield fake
    fake.close()


def entry(issuer: Issuer, **options: Any) -> dict[str, Any]:
    return {"issuer": issuer.url, "audience": "partner", **options}


async def test_every_issuer_has_its_own_rules(issuer: Issuer, other: Issuer) -> None:
    partner = entry(other, algorithms=["ES256"], leeway=0, scope_claim="groups", tenant="partner")
    async with running(issuer, issuers=[partner]) as provider:
        ours = await provider.authenticate(issuer.token())
        theirs = await provider.authenticate(
            other.token(EC, "ES256", aud="partner", groups=["read"])
        )
        for key, algorithm, claims in (
            (RSA_OTHER, "RS256", {"aud": "partner"}),
            (EC, "ES256", {"aud": AUDIENCE}),
            (EC, "ES256", {"aud": "partner", "exp": NOW}),
        ):
            with pytest.raises(AuthenticationError):
                await provider.authenticate(other.token(key, algorithm, **claims))
    assert ours == Principal(
        "ada", frozenset({"generate", "read"}), provider="oidc", expires_at=UNTIL
    )
    name = f"oidc:{other.url}"
    assert theirs == Principal(
        "ada", frozenset({"read"}), tenant="partner", provider=name, expires_at=UNTIL - 60
    )


async def test_no_issuer_signs_for_another(issuer: Issuer, other: Issuer) -> None:
    async with running(issuer, issuers=[entry(other)]) as provider:
        for liar, key in ((issuer, RSA_OTHER), (other, RSA)):
            for key_id in ("rsa", "rsa-2", None):
                header = {"alg": "RS256"} | ({"kid": key_id} if key_id else {})
                claims = liar.claims(aud=[AUDIENCE, "partner"])
                with pytest.raises(AuthenticationError):
                    await provider.authenticate(sign(header, claims, key))


async def test_an_issuer_that_is_down_takes_nobody_with_it(issuer: Issuer, other: Issuer) -> None:
    other.close()
    async with running(issuer, issuers=[entry(other)]) as provider:
        assert await provider.authenticate(issuer.token()) is not None
        with pytest.raises(AuthenticationUnavailableError):
            await provider.authenticate(other.token(EC, "ES256"))


async def test_issuers_are_asked_about_opaque_tokens_one_after_another(
    issuer: Issuer, other: Issuer
) -> None:
    token = other.opaque("opaque", aud="partner")
    partner = entry(other, introspection=ASKED)
    async with running(issuer, introspection=ASKED, issuers=[partner]) as provider:
        principal = await provider.authenticate(token)
        assert principal is not None
        assert principal.provider == f"oidc:{other.url}"
        assert await provider.authenticate("unknown") is None
        issuer.close()
        assert await provider.authenticate(token) is not None
        with pytest.raises(AuthenticationUnavailableError):
            await provider.authenticate("unknown")


def test_an_issuer_may_be_there_once() -> None:
    first = {"issuer": "https://x", "audience": "a"}
    second = {"issuer": "https://y", "audience": "a"}
    OIDCProvider(msgspec.convert({**first, "issuers": [second]}, OIDCConfig))
    for issuers in ([first], [second, second]):
        with pytest.raises(ConfigError, match=r"issuers\[\d\]\.issuer: the same as"):
            OIDCProvider(msgspec.convert({**first, "issuers": issuers}, OIDCConfig))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"issuer": "http://y"}, r"auth\.oidc\.issuers\[0\]\.issuer"),
        ({"audience": ""}, r"auth\.oidc\.issuers\[0\]\.audience"),
        ({"algorithms": ["none"]}, r"auth\.oidc\.issuers\[0\]\.algorithms"),
    ],
)
def test_problems_name_the_issuer(options: dict[str, Any], complaint: str) -> None:
    second = {"issuer": "https://y", "audience": "a", **options}
    given = {"issuer": "https://x", "audience": "a", "issuers": [second]}
    with pytest.raises(ConfigError, match=complaint):
        OIDCProvider(msgspec.convert(given, OIDCConfig))


def test_issuers_have_no_issuers() -> None:
    second = {"issuer": "https://y", "audience": "a", "issuers": []}
    given = {"issuer": "https://x", "audience": "a", "issuers": [second]}
    with pytest.raises(msgspec.ValidationError, match="issuers"):
        msgspec.convert(given, OIDCConfig)
