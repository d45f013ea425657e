from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler
from typing import Any

import msgspec
import pytest
from oidc_fakes import AUDIENCE, DISCOVERY, INTROSPECTION, NOW, UNTIL, Clock, Issuer, reply, running

from inferflux_auth_oidc.config import IntrospectionConfig, OIDCConfig
from inferflux_auth_oidc.provider import OIDCProvider
from inferflux_core.auth import Principal
from inferflux_core.errors import (
    AuthenticationError,
    AuthenticationUnavailableError,
    ConfigError,
)

pytestmark = pytest.mark.anyio

ASKED: dict[str, Any] = {"introspection": {"client_id": "us", "client_secret": "p:ä ss"}}


async def test_the_issuer_says_who_bears_an_opaque_token(issuer: Issuer) -> None:
    token = issuer.opaque("opaque-1", scope="generate", roles=["operators"])
    async with running(issuer, role_claim="roles", **ASKED) as provider:
        assert await provider.authenticate(token) == Principal(
            "ada",
            frozenset({"generate"}),
            provider="oidc",
            roles=frozenset({"operators"}),
            expires_at=UNTIL,
        )
        assert await provider.authenticate("opaque-2") is None
    asked = issuer.questions[0]
    assert (asked["token"], asked["token_type_hint"]) == (token, "access_token")
    assert asked["authorization"] == "Basic " + b64encode(b"us:p%3A%C3%A4+ss").decode()


async def test_without_introspection_nobody_is_asked(issuer: Issuer) -> None:
    async with running(issuer) as provider:
        assert await provider.authenticate(issuer.opaque("opaque")) is None
    assert INTROSPECTION not in issuer.requests


@pytest.mark.parametrize("credential", ["", "a b", "a\nb", "ü", "x" * 20_000, "a=b"])
async def test_what_cannot_be_a_token_is_not_sent(issuer: Issuer, credential: str) -> None:
    async with running(issuer, **ASKED) as provider:
        assert await provider.authenticate(credential) is None
    assert not issuer.questions


async def test_a_revoked_token_stops_within_the_cache_time(issuer: Issuer, clock: Clock) -> None:
    token = issuer.opaque("opaque")
    async with running(issuer, clock, **ASKED) as provider:
        assert await provider.authenticate(token) is not None
        del issuer.tokens[token]
        clock.now += 0.9
        assert await provider.authenticate(token) is not None
        assert len(issuer.questions) == 1
        clock.now += 0.1
        assert await provider.authenticate(token) is None


async def test_no_answer_holds_beyond_the_end_of_the_token(issuer: Issuer, clock: Clock) -> None:
    token = issuer.opaque("opaque", exp=NOW + 0.5)
    async with running(issuer, clock, **ASKED) as provider:
        assert await provider.authenticate(token) is not None
        clock.now += 0.5
        assert await provider.authenticate(token) is not None
    assert len(issuer.questions) == 2


async def test_refusals_are_not_remembered(issuer: Issuer) -> None:
    async with running(issuer, **ASKED) as provider:
        assert await provider.authenticate("opaque") is None
        assert await provider.authenticate(issuer.opaque("opaque")) is not None


async def test_a10_tokens_with_the_same_beginning_are_told_apart(issuer: Issuer) -> None:
    ada = issuer.opaque("x" * 200 + "a")
    bob = issuer.opaque("x" * 200 + "b", sub="bob")
    async with running(issuer, **ASKED) as provider:
        found = [await provider.authenticate(token) for token in (ada, bob, ada, bob)]
        assert await provider.authenticate("x" * 200) is None
    assert [one and one.subject for one in found] == ["ada", "bob", "ada", "bob"]
    assert len(issuer.questions) == 3


async def test_callers_with_the_same_token_share_an_answer(issuer: Issuer) -> None:
    token = issuer.opaque("opaque")
    async with running(issuer, **ASKED) as provider:
        found = await asyncio.gather(*(provider.authenticate(token) for _ in range(200)))
    assert None not in found
    assert len(issuer.questions) <= 16


@pytest.mark.parametrize(
    ("claims", "complaint"),
    [
        ({"aud": "other"}, "another service"),
        ({"aud": None}, "aud"),
        ({"iss": "https://other.example"}, "another issuer"),
        ({"exp": NOW - 60}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"iat": NOW + 61}, "not valid yet"),
        ({"sub": None}, "sub"),
        ({"sub": ["ada"]}, "sub"),
        ({"cnf": {"jkt": "x"}}, "bound to a key"),
    ],
)
async def test_claims_are_checked_as_those_of_signed_tokens(
    issuer: Issuer, claims: dict[str, Any], complaint: str
) -> None:
    token = issuer.opaque("opaque", **claims)
    async with running(issuer, **ASKED) as provider:
        for _ in range(2):
            with pytest.raises(AuthenticationError, match=complaint):
                await provider.authenticate(token)


async def test_a_client_without_a_user_is_its_own_subject(issuer: Issuer) -> None:
    token = issuer.opaque("opaque", iss=None, sub=None, client_id="robot")
    async with running(issuer, **ASKED) as provider:
        principal = await provider.authenticate(token)
    assert principal is not None
    assert principal.subject == "robot"


@pytest.mark.parametrize("kind", [None, "Refresh", "N_A", 7, "DPoP"])
async def test_refresh_tokens_and_the_like_are_no_access_tokens(
    issuer: Issuer, kind: object
) -> None:
    token = issuer.opaque("opaque", token_type=kind)
    async with running(issuer, **ASKED) as provider:
        assert await provider.authenticate(token) is None


def say(body: bytes, status: int = 200, **headers: str) -> Any:
    return lambda handler: reply(handler, body, status, **headers)


TROUBLE = {
    "error": say(b"{}", 500),
    "refused": say(b'{"error": "invalid_client"}', 401),
    "page": say(b"<html>"),
    "no answer": say(b"{}"),
    "active is a text": say(b'{"active": "true"}'),
    "active is a number": say(b'{"active": 1}'),
    "huge": say(b'{"active": true}'.ljust(300_000)),
    "redirect": say(b"", 307, Location="/elsewhere"),
}


@pytest.mark.parametrize("trouble", [*TROUBLE, "hang"])
async def test_without_an_answer_nobody_gets_in(
    issuer: Issuer, clock: Clock, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = issuer.opaque("opaque-secret")
    answers = {**TROUBLE, "hang": lambda _: issuer.closing.wait(10)}
    issuer.answers[INTROSPECTION] = answers[trouble]
    options = {"introspection": {**ASKED["introspection"], "timeout": 0.1}}
    async with running(issuer, clock, **options) as provider:
        with pytest.raises(AuthenticationUnavailableError, match="at the moment"):
            await provider.authenticate(token)
        issuer.answers.clear()
        assert await provider.authenticate(token) is not None
        assert await provider.authenticate(issuer.token()) is not None
    assert "/elsewhere" not in issuer.requests
    assert "cannot introspect" in caplog.text
    assert "opaque-secret" not in caplog.text


async def test_an_issuer_that_fails_again_and_again_is_left_alone(
    issuer: Issuer, clock: Clock
) -> None:
    token = issuer.opaque("opaque")
    issuer.answers[INTROSPECTION] = TROUBLE["error"]
    async with running(issuer, clock, **ASKED) as provider:
        for _ in range(20):
            with pytest.raises(AuthenticationUnavailableError):
                await provider.authenticate(token)
        assert issuer.requests.count(INTROSPECTION) == 5
        issuer.answers.clear()
        clock.now += 5
        assert await provider.authenticate(token) is not None


async def test_callers_who_hang_up_do_not_count_as_failures(issuer: Issuer) -> None:
    arrived, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def late(handler: BaseHTTPRequestHandler) -> None:
        loop.call_soon_threadsafe(arrived.set)
        go_on.wait(10)

    token = issuer.opaque("opaque")
    async with running(issuer, **ASKED) as provider:
        issuer.answers[INTROSPECTION] = late
        for _ in range(6):
            arrived.clear()
            hasty = asyncio.create_task(provider.authenticate(token))
            await arrived.wait()
            hasty.cancel()
            await asyncio.wait([hasty])
        issuer.answers.clear()
        go_on.set()
        assert await provider.authenticate(token) is not None


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/", "file:///etc/passwd", "http://[", 7, None]
)
async def test_only_safe_addresses_are_asked(issuer: Issuer, address: object) -> None:
    document = {**issuer.documents()[DISCOVERY], "introspection_endpoint": address}
    issuer.answers[DISCOVERY] = say(json.dumps(document).encode())
    async with running(issuer, **ASKED) as provider:
        with pytest.raises(AuthenticationUnavailableError):
            await provider.authenticate(issuer.opaque("opaque"))


async def test_an_issuer_that_was_down_at_start_is_asked_once_it_is_up(
    issuer: Issuer, clock: Clock
) -> None:
    issuer.answers[DISCOVERY] = TROUBLE["error"]
    async with running(issuer, clock, **ASKED) as provider:
        token = issuer.opaque("opaque")
        with pytest.raises(AuthenticationUnavailableError):
            await provider.authenticate(token)
        issuer.answers.clear()
        clock.now += 30
        assert await provider.authenticate(token) is not None


async def test_the_address_may_be_configured(issuer: Issuer) -> None:
    issuer.answers["/other"] = say(json.dumps({"active": False}).encode())
    options = {"introspection": {**ASKED["introspection"], "endpoint": issuer.url + "/other"}}
    async with running(issuer, **options) as provider:
        assert await provider.authenticate(issuer.opaque("opaque")) is None
    assert "/other" in issuer.requests


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1/", "http://x", "https://", "https://u:p@x", "https://x#y", ""]
)
def test_other_addresses_are_refused(endpoint: str) -> None:
    asked = IntrospectionConfig(client_id="a", client_secret="b", endpoint=endpoint)
    with pytest.raises(ConfigError, match=r"introspection\.endpoint"):
        OIDCProvider(OIDCConfig(issuer="https://x", audience="a", introspection=asked))


def test_the_secret_is_in_no_representation() -> None:
    given = {"issuer": "https://x", "audience": AUDIENCE, **ASKED}
    config = msgspec.convert(given, OIDCConfig)
    assert config.introspection is not None
    assert config.introspection.client_secret == "p:ä ss"
    assert "ss" not in repr(config).replace("issuer", "").replace("class", "")
