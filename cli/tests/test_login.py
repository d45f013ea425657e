from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inferctl_fakes import PATIENCE, FakeServer, Finished, sse

from inferflux_cli.errors import CliError
from inferflux_cli.login import store
from inferflux_cli.login.tokens import Login, Request

DISCOVERY = "/.well-known/openid-configuration"
TOKENS = {
    "access_token": "at-1",
    "refresh_token": "rt-1",
    "token_type": "Bearer",
    "expires_in": 3600,
}
Inferctl = Callable[..., Finished]


class Provider(FakeServer):
    """A provider at which every login is confirmed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"
        self.invitation = {
            "device_code": "secret-device",
            "user_code": "ABCD-EFGH",
            "verification_uri": f"{self.url}/device",
            "verification_uri_complete": f"{self.url}/device?user_code=ABCD-EFGH",
            "expires_in": 60,
            "interval": 0.01,
        }
        self.document = {
            "issuer": self.url,
            "device_authorization_endpoint": f"{self.url}/invite",
            "token_endpoint": f"{self.url}/token",
            "revocation_endpoint": f"{self.url}/revoke",
        }

    def serve(self, **changes: Any) -> None:
        self.json(DISCOVERY, {**self.document, **changes})
        self.json("/invite", self.invitation)
        self.raw("/revoke", b"")

    def refuses(self, path: str, code: str, **more: str) -> None:
        self.json(path, {"error": code, **more}, 400)


@pytest.fixture
def provider() -> Iterator[Provider]:
    fake = Provider()
    yield fake
    fake.close()


@pytest.fixture
def logins(home: Path) -> Path:
    return home / ".config" / "inferctl" / "logins.json"


@pytest.fixture
def login(provider: Provider, inferctl: Inferctl) -> Callable[..., Finished]:
    def run(*arguments: str) -> Finished:
        return inferctl("login", "--issuer", provider.url, "--client-id", "cli", *arguments)

    return run


@pytest.fixture
def logged_in(provider: Provider, server: FakeServer, home: Path) -> Callable[..., None]:
    """Keeps a login for `server` whose token lasts for so many seconds."""

    def keep(seconds: float | None, renewal: str | None = "rt-0") -> None:
        provider.serve()
        request = Request(provider.url, "cli", "openid", None, ("https://r",))
        expires_at = None if seconds is None else time.time() + seconds
        with store.locked():
            url = f"http://127.0.0.1:{server.port}"
            store.keep(url, Login(request, "at-0", renewal, expires_at))

    return keep


def sent(server: FakeServer) -> list[str | None]:
    return [request.headers.get("authorization") for request in server.requests]


def test_a_login_is_kept_and_used(server, provider, login, inferctl, logins: Path) -> None:
    provider.serve()
    provider.refuses("/token", "authorization_pending")
    provider.json("/token", TOKENS)

    done = login("--scope", "openid read", "--resource", "https://a", "--resource", "https://b")

    assert (done.code, done.out) == (0, f"logged in to http://127.0.0.1:{server.port}\n")
    assert f"Visit {provider.url}/device and enter the code ABCD-EFGH\n" in done.err
    assert f"or visit {provider.url}/device?user_code=ABCD-EFGH\n" in done.err
    assert not any(secret in done.out + done.err for secret in ("at-1", "rt-1", "secret-device"))
    (asked,) = provider.bodies("/invite")
    assert asked == {
        "client_id": ["cli"],
        "scope": ["openid read"],
        "resource": ["https://a", "https://b"],
    }
    polls = provider.bodies("/token")
    assert len(polls) == 2
    assert polls[1]["device_code"] == ["secret-device"]
    assert polls[1]["grant_type"] == ["urn:ietf:params:oauth:grant-type:device_code"]
    assert stat.S_IMODE(logins.stat().st_mode) == 0o600
    assert stat.S_IMODE(logins.parent.stat().st_mode) == 0o700

    inferctl("models", "list")
    assert sent(server) == ["Bearer at-1"]


def test_a_login_in_json(server, provider, login) -> None:
    provider.serve()
    provider.json("/token", TOKENS)

    done = login("--json")

    invitation, result = done.lines
    assert invitation["user_code"] == "ABCD-EFGH"
    assert result["server"] == f"http://127.0.0.1:{server.port}"
    assert result["expires_at"] == pytest.approx(time.time() + 3600, abs=60)
    assert done.err == ""
    assert "at-1" not in done.out
    assert "secret-device" not in done.out


def test_a_key_goes_before_a_login(server, inferctl, logged_in, provider, monkeypatch) -> None:
    logged_in(-1)
    inferctl("models", "list", "--api-key", "flag")
    monkeypatch.setenv("INFERCTL_API_KEY", "variable")
    inferctl("models", "list")

    assert sent(server) == ["Bearer flag", "Bearer variable"]
    assert provider.requests == []


def test_a_login_is_for_one_server(server, provider, inferctl, logged_in) -> None:
    logged_in(None)
    provider.stream("/events", sse({"a": 1}))

    inferctl("models", "list")
    inferctl("sse", f"{provider.url}/events")
    inferctl("sse", "/v1/models")

    assert sent(provider) == [None]
    assert sent(server) == ["Bearer at-0", "Bearer at-0"]


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [
        ("access_denied", 4, "the login was refused"),
        ("expired_token", 1, "not confirmed in time"),
        ("invalid_client", 4, "the provider says invalid_client: no such client"),
    ],
)
def test_logins_that_are_refused(
    provider, login, logins: Path, code: str, exit_code: int, message: str
) -> None:
    provider.serve()
    provider.refuses("/token", code, error_description="no such client")

    done = login()

    assert (done.code, done.out) == (exit_code, "")
    assert message in done.err
    assert not logins.exists()


def test_a_code_that_nobody_confirms(provider, login) -> None:
    provider.invitation |= {"expires_in": 0.1, "interval": 0.03}
    provider.serve()
    provider.refuses("/token", "authorization_pending")

    done = login()

    assert done.code == 1
    assert "not confirmed in time" in done.err
    assert 1 <= len(provider.bodies("/token")) <= 3


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://evil.example"},
        {"issuer": "http://127.0.0.1"},
        {"issuer": None},
        {"device_authorization_endpoint": None},
        {"device_authorization_endpoint": "http://169.254.169.254/x"},
        {"device_authorization_endpoint": "file:///etc/passwd"},
        {"device_authorization_endpoint": "http://["},
        {"device_authorization_endpoint": 7},
        {"token_endpoint": "http://example.com/token"},
        {"token_endpoint": "https://user:secret@example.com/token"},
    ],
)
def test_providers_that_cannot_be_trusted(
    provider, login, logins: Path, changes: dict[str, Any]
) -> None:
    provider.serve(**changes)

    done = login()

    assert (done.code, done.out) == (1, "")
    assert done.err
    assert not provider.bodies("/token")
    assert not logins.exists()


@pytest.mark.parametrize("path", [DISCOVERY, "/invite", "/token"])
@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        (b"<html>Sign in</html>", 200, {}),
        (b"[]", 200, {}),
        (b"{}", 200, {}),
        (b"", 500, {}),
        (b"", 302, {"Location": "/elsewhere"}),
        (b'{"access_token": "x"}'.ljust(300_000), 200, {}),
    ],
)
def test_answers_that_make_no_sense(
    provider, login, path: str, body: bytes, status: int, headers: dict[str, str]
) -> None:
    provider.raw(path, body, "application/json", status, **headers)
    if path != DISCOVERY:
        provider.json(DISCOVERY, provider.document)
    if path != "/invite":
        provider.json("/invite", provider.invitation)

    done = login()

    assert (done.code, done.out) == (1, "")
    assert "Traceback" not in done.err
    assert "/elsewhere" not in [request.path for request in provider.requests]


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://example.com/device", "file:///x", None, 7, ""]
)
def test_pages_that_nobody_should_visit(provider, login, address: object) -> None:
    provider.invitation["verification_uri"] = address
    provider.serve()

    done = login()

    assert done.code == 1
    assert "not safe" in done.err


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "a\nb"},
        {"access_token": "ä"},
        {"token_type": "DPoP"},
        {"token_type": None},
    ],
)
def test_tokens_that_cannot_be_used(provider, login, logins: Path, changes: Any) -> None:
    provider.serve()
    provider.json("/token", {**TOKENS, **changes})

    assert login().code == 1
    assert not logins.exists()


@pytest.mark.parametrize(
    "issuer", ["http://example.com", "ftp://x", "x", "https://u:p@x", "http://["]
)
def test_issuers_that_cannot_be_trusted(inferctl, issuer: str) -> None:
    done = inferctl("login", "--issuer", issuer, "--client-id", "cli")

    assert done.code == 1
    assert "no issuer to trust" in done.err


def test_an_issuer_that_is_not_there(inferctl) -> None:
    done = inferctl("login", "--issuer", "http://127.0.0.1:9", "--client-id", "cli")

    assert done.code == 3
    assert "cannot reach the provider" in done.err


def test_a_token_that_is_about_to_expire_is_refreshed(
    server, provider, inferctl, logged_in, logins: Path
) -> None:
    logged_in(20)
    provider.json("/token", TOKENS)
    inferctl("models", "list")
    inferctl("models", "list")

    assert sent(server) == ["Bearer at-1", "Bearer at-1"]
    (asked,) = provider.bodies("/token")
    assert asked == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["rt-0"],
        "client_id": ["cli"],
        "resource": ["https://r"],
    }
    assert "rt-1" in logins.read_text()


def test_a_refresh_token_holds_until_there_is_another(
    provider, inferctl, logged_in, logins: Path
) -> None:
    logged_in(-1)
    provider.json("/token", {**TOKENS, "refresh_token": None})
    inferctl("models", "list")

    assert "rt-0" in logins.read_text()


def test_processes_do_not_refresh_the_same_token_twice(
    server, provider, inferctl_child, logged_in
) -> None:
    logged_in(-1)
    provider.json("/token", TOKENS)
    provider.refuses("/token", "invalid_grant")
    command = [sys.executable, "-m", "inferflux_cli", "--port", str(server.port), "models", "list"]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(4)]

    assert [process.wait(PATIENCE) for process in running] == [0] * 4
    assert len(provider.bodies("/token")) == 1
    assert sent(server) == ["Bearer at-1"] * 4


@pytest.mark.parametrize("renewal", ["rt-0", None])
def test_a_login_that_has_ended(server, provider, inferctl, logged_in, renewal: str | None) -> None:
    logged_in(-1, renewal)
    provider.refuses("/token", "invalid_grant")

    done = inferctl("models", "list")

    assert done.code == 4
    assert f"inferctl login --issuer {provider.url} --client-id cli" in done.err
    assert server.requests == []


def test_while_the_provider_is_down_a_token_that_is_still_good_serves(
    server, provider, inferctl, logged_in
) -> None:
    logged_in(20)
    provider.close()
    assert inferctl("models", "list").code == 0
    assert sent(server) == ["Bearer at-0"]

    logged_in(-1)
    assert inferctl("models", "list").code == 3


def test_logout_forgets_here_and_there(provider, inferctl, logged_in, logins: Path) -> None:
    logged_in(100)

    done = inferctl("logout", "--json")

    assert (done.code, done.lines[0]["revoked"]) == (0, True)
    assert [body["token"] for body in provider.bodies("/revoke")] == [["at-0"], ["rt-0"]]
    assert json.loads(logins.read_text()) == {}
    assert inferctl("logout").code == 1


def test_logout_where_nothing_can_be_revoked(provider, inferctl, logged_in) -> None:
    logged_in(100)
    provider.json(DISCOVERY, {**provider.document, "revocation_endpoint": None})
    provider.reply_to(DISCOVERY)

    assert inferctl("logout", "--json").lines[0]["revoked"] is False


@pytest.mark.parametrize("down", [True, False])
def test_logout_says_if_the_provider_did_not_forget(
    provider, inferctl, logged_in, logins: Path, *, down: bool
) -> None:
    logged_in(100)
    if down:
        provider.close()
    else:
        provider.refuses("/revoke", "unsupported_token_type")
        provider.reply_to("/revoke")

    done = inferctl("logout")

    assert done.code == 1
    assert "logged out here, but not there" in done.err
    assert json.loads(logins.read_text()) == {}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "\xff", '{"URL": 7}', '{"URL": {}}', '{"URL": {"access_token": "x"}}'],
)
def test_a_damaged_file(server, inferctl, logins: Path, content: str) -> None:
    logins.parent.mkdir(parents=True)
    logins.touch(mode=0o600)
    url = f"http://127.0.0.1:{server.port}"
    logins.write_text(content.replace("URL", url), encoding="latin-1")

    done = inferctl("models", "list")

    assert done.code == 1
    assert str(logins) in done.err
    assert server.requests == []


def test_a_file_that_others_can_read(inferctl, logged_in, logins: Path) -> None:
    logged_in(None)
    logins.chmod(0o640)

    done = inferctl("models", "list")

    assert done.code == 1
    assert f"chmod 600 {logins}" in done.err


def test_a_write_that_fails_leaves_the_file_as_it_was(logged_in, logins: Path, monkeypatch) -> None:
    logged_in(None)
    before = logins.read_text()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with store.locked(), pytest.raises(CliError, match="No space left"):
        store.forget(json.loads(before).popitem()[0])

    assert logins.read_text() == before
    assert sorted(path.name for path in logins.parent.iterdir()) == [
        "logins.json",
        "logins.json.lock",
    ]


def test_ctrl_c_while_waiting(server, provider, logins: Path) -> None:
    provider.invitation["interval"] = 60
    provider.invitation["expires_in"] = 600
    provider.serve()
    command = [sys.executable, "-m", "inferflux_cli", "--port", str(server.port), "login"]
    command += ["--issuer", provider.url, "--client-id", "cli"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stderr.readline().startswith(b"Visit ")
        assert child.stderr.readline().startswith(b"or visit ")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=PATIENCE)

    assert (child.returncode, out, err) == (130, b"", b"")
    assert not logins.exists()


def test_no_representation_holds_a_token(logged_in, server) -> None:
    logged_in(None)
    login = store.find(f"http://127.0.0.1:{server.port}")

    assert login is not None
    assert "at-0" not in repr(login)
    assert "rt-0" not in repr(login)
