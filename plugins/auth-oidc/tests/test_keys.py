from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest
from joserfc.jwk import OctKey
from oidc_fakes import (
    DISCOVERY,
    EC,
    KEYS,
    RSA,
    RSA_OTHER,
    Clock,
    Issuer,
    assemble,
    reply,
    running,
)

from inferflux_auth_oidc import fetch
from inferflux_core.errors import (
    AuthenticationError,
    AuthenticationUnavailableError,
    ConfigError,
)

pytestmark = pytest.mark.anyio


async def test_made_up_key_ids_cannot_drive_the_fetching(issuer: Issuer, clock: Clock) -> None:
    async with running(issuer, clock) as provider:

        async def attack(key_id: str) -> None:
            header = {"alg": "RS256", "kid": key_id}
            with pytest.raises(AuthenticationError):
                await provider.authenticate(assemble(header, issuer.claims(), lambda _: b"x"))

        for number in range(5_000):
            await attack(f"a{number}")
        assert issuer.requests.count(KEYS) == 1
        clock.now += 30
        await asyncio.gather(*(attack(f"b{number}") for number in range(5_000)))
        assert issuer.requests.count(KEYS) == 2
        assert await provider.authenticate(issuer.token()) is not None


async def test_a_new_key_is_accepted_after_one_fetch(issuer: Issuer, clock: Clock) -> None:
    async with running(issuer, clock) as provider:
        issuer.keys.append(RSA_OTHER)
        clock.now += 30
        assert await provider.authenticate(issuer.token(RSA_OTHER)) is not None
        assert issuer.requests.count(KEYS) == 2


async def test_a_removed_key_is_refused_after_the_interval(issuer: Issuer, clock: Clock) -> None:
    async with running(issuer, clock) as provider:
        issuer.keys.remove(RSA)
        clock.now += 299
        assert await provider.authenticate(issuer.token(RSA)) is not None
        clock.now += 2
        with pytest.raises(AuthenticationError, match="unknown key"):
            await provider.authenticate(issuer.token(RSA))
        assert await provider.authenticate(issuer.token(EC, "ES256")) is not None


def hang(handler: BaseHTTPRequestHandler, issuer: Issuer) -> None:
    issuer.closing.wait(10)


def drip(handler: BaseHTTPRequestHandler, issuer: Issuer) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not issuer.closing.wait(0.02):
        try:
            handler.wfile.write(b" ")
        except OSError:
            return


def redirect(handler: BaseHTTPRequestHandler, issuer: Issuer) -> None:
    reply(handler, b"", 302, Location=f"{issuer.url}/elsewhere")


def huge(handler: BaseHTTPRequestHandler, issuer: Issuer) -> None:
    """What was asked for, but with a key too few and too much white space."""
    document = issuer.documents()[handler.path]
    document.get("keys", [RSA]).pop(0)
    reply(handler, json.dumps(document).encode().ljust(256 * 1024 + 1))


def shared_secret(handler: BaseHTTPRequestHandler, issuer: Issuer) -> None:
    key = OctKey.import_key("0123456789abcdef0123456789abcdef", {"kid": "rsa"})
    reply(handler, json.dumps({"keys": [key.as_dict(private=True)]}).encode())


def fixed(body: bytes, status: int = 200, **headers: str) -> Callable[..., None]:
    return lambda handler, issuer: reply(handler, body, status, **headers)


TROUBLE = {
    "error": fixed(b"{}", 500),
    "page": fixed(b"<html>Sign in</html>", Content_Type="text/html"),
    "empty": fixed(b""),
    "list": fixed(b"[]"),
    "nested": fixed(b"[" * 100_000),
    "huge": huge,
    "10 MB": fixed(b" " * 10_000_000),
    "bomb": fixed(gzip.compress(b" " * 10_000_000), Content_Encoding="gzip"),
    "no keys": fixed(b'{"keys": []}'),
    "keys that are none": fixed(b'{"keys": [null, 7, "x", {}, {"kty": "RSA"}, {"kty": "?"}]}'),
    "not a list": fixed(b'{"keys": {"kid": "rsa"}}'),
    "shared secret": shared_secret,
    "redirect": redirect,
    "hang": hang,
    "drip": drip,
}


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize("trouble", TROUBLE)
async def test_trouble_at_the_issuer_leaves_known_keys_alone(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch, path: str, trouble: str
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT", 0.15 if trouble in {"hang", "drip"} else 3)
    async with running(issuer, clock) as provider:
        issuer.answers[path] = lambda handler: TROUBLE[trouble](handler, issuer)
        clock.now += 301
        seen = len(issuer.requests)
        for _ in range(3):
            assert await provider.authenticate(issuer.token()) is not None
        assert issuer.requests[seen:].count(path) == 1
        assert "/elsewhere" not in issuer.requests

        issuer.answers.clear()
        issuer.keys.append(RSA_OTHER)
        clock.now += 30
        assert await provider.authenticate(issuer.token(RSA_OTHER)) is not None


@pytest.mark.parametrize("trouble", ["error", "page", "hang"])
async def test_without_any_keys_tokens_are_refused_until_the_issuer_recovers(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT", 0.15 if trouble == "hang" else 3)
    issuer.answers[KEYS] = lambda handler: TROUBLE[trouble](handler, issuer)
    async with running(issuer, clock) as provider:
        for _ in range(3):
            with pytest.raises(AuthenticationUnavailableError, match="at the moment"):
                await provider.authenticate(issuer.token())
        assert issuer.requests.count(KEYS) == 1
        issuer.answers.clear()
        clock.now += 30
        assert await provider.authenticate(issuer.token()) is not None


async def test_known_keys_do_not_serve_for_ever(issuer: Issuer, clock: Clock) -> None:
    async with running(issuer, clock) as provider:
        issuer.answers[KEYS] = lambda handler: reply(handler, b"", 500)
        clock.now += 86_400
        assert await provider.authenticate(issuer.token()) is not None
        clock.now += 1
        with pytest.raises(AuthenticationUnavailableError, match="at the moment"):
            await provider.authenticate(issuer.token())


async def test_while_the_issuer_is_down_nobody_with_a_known_key_waits(
    issuer: Issuer, clock: Clock
) -> None:
    async with running(issuer, clock) as provider:
        issuer.answers[KEYS] = lambda handler: reply(handler, b"", 500)
        clock.now += 301
        assert await provider.authenticate(issuer.token()) is not None
        issuer.answers[KEYS] = lambda handler: hang(handler, issuer)
        clock.now += 30
        async with asyncio.timeout(1):
            assert await provider.authenticate(issuer.token()) is not None


async def test_a_caller_who_hangs_up_does_not_cancel_the_fetch(
    issuer: Issuer, clock: Clock
) -> None:
    arrived, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def late(handler: BaseHTTPRequestHandler) -> None:
        loop.call_soon_threadsafe(arrived.set)
        go_on.wait(10)
        reply(handler, json.dumps(issuer.documents()[KEYS]).encode())

    async with running(issuer, clock) as provider:
        issuer.keys.append(RSA_OTHER)
        issuer.answers[KEYS] = late
        clock.now += 30
        token = issuer.token(RSA_OTHER)
        hasty = asyncio.create_task(provider.authenticate(token))
        await arrived.wait()
        hasty.cancel()
        patient = asyncio.create_task(provider.authenticate(token))
        await asyncio.sleep(0)
        go_on.set()
        assert await patient is not None
        assert issuer.requests.count(KEYS) == 2


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/keys",
        "file:///etc/passwd",
        "http://[",
        "//x",
        "ftp://x",
        7,
        None,
        "",
    ],
)
async def test_keys_are_fetched_from_safe_addresses_only(
    issuer: Issuer, address: object, caplog: pytest.LogCaptureFixture
) -> None:
    document = {"issuer": issuer.url, "jwks_uri": address}
    issuer.answers[DISCOVERY] = lambda handler: reply(handler, json.dumps(document).encode())
    async with running(issuer):
        assert "jwks_uri is not acceptable" in caplog.text


async def test_an_unreachable_issuer_is_a_warning_at_start(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.close()
    async with running(issuer) as provider:
        with pytest.raises(AuthenticationUnavailableError, match="at the moment"):
            await provider.authenticate(issuer.token())
    assert "cannot fetch the keys" in caplog.text


@pytest.mark.parametrize("suffix", ["/", "/other"])
async def test_another_issuer_at_the_address_is_an_error_at_start(
    issuer: Issuer, suffix: str
) -> None:
    document = {**issuer.documents()[DISCOVERY], "issuer": issuer.url + suffix}
    issuer.answers[DISCOVERY] = lambda handler: reply(handler, json.dumps(document).encode())
    with pytest.raises(ConfigError, match="calls itself"):
        async with running(issuer):
            pass


async def test_a_turncoat_issuer_changes_nothing_later(issuer: Issuer, clock: Clock) -> None:
    async with running(issuer, clock) as provider:
        document = {**issuer.documents()[DISCOVERY], "issuer": "https://evil.example"}
        issuer.answers[DISCOVERY] = lambda handler: reply(handler, json.dumps(document).encode())
        issuer.keys = [RSA_OTHER]
        clock.now += 301
        assert await provider.authenticate(issuer.token()) is not None
        with pytest.raises(AuthenticationError):
            await provider.authenticate(issuer.token(RSA_OTHER))
