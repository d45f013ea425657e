"""An OpenID Connect provider that other people wrote: its tokens at our server, and logins by device."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.identity_provider import (
    INTROSPECTION,
    IdentityProvider,
    confirm_in_browser,
    resource,
    running_identity_provider,
)
from support.servers import RunningServer, running_server

CHAT = {"model": "stub", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running_identity_provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    oidc = {"issuer": provider.url, "audience": "inferflux", "introspection": INTROSPECTION}
    config = {
        "runtime": {"backend": "stub"},
        "auth": {"oidc": {**oidc, "role_claim": "realm_access.roles"}},
    }
    with running_server(tmp_path_factory.mktemp("oidc"), config) as running:
        yield running


def get_models(server: RunningServer, token: str) -> httpx2.Response:
    with server.client(token) as client:
        return client.get("/v1/models")


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA", "opaque"])
def test_a_machine_calls_with_its_token(
    provider: IdentityProvider, server: RunningServer, kind: str
) -> None:
    with server.client(provider.token(kind)) as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert client.post("/v1/models/load", json={"model": "stub"}).status_code == 403
    assert get_models(server, provider.token(kind, "read")).status_code == 200


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_a_changed_token_is_refused(
    provider: IdentityProvider, server: RunningServer, kind: str
) -> None:
    header, claims, signature = provider.token(kind, "read").split(".")
    for forged in (f"{header}.{claims}.{signature[::-1]}", f"{header}.{claims}."):
        assert get_models(server, forged).status_code == 401


def test_an_opaque_token_that_was_made_up_is_refused(server: RunningServer) -> None:
    assert get_models(server, "made-up").status_code == 401


def test_a_revoked_token_stops_within_the_cache_time(
    provider: IdentityProvider, server: RunningServer
) -> None:
    token = provider.token("opaque", "read")
    assert get_models(server, token).status_code == 200
    provider.revoke(token)
    revoked_at = time.monotonic()
    while get_models(server, token).status_code == 200:
        assert time.monotonic() - revoked_at < 3
        time.sleep(0.05)
    assert time.monotonic() - revoked_at < 1.5


@dataclass
class Inferctl:
    """The client, with a home of its own."""

    server: RunningServer
    home: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        names = ("INFERCTL_API_KEY", "XDG_CONFIG_HOME")
        env = {name: value for name, value in os.environ.items() if name not in names}
        return subprocess.Popen(
            [sys.executable, "-m", "inferflux_cli", "--url", self.server.url, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**env, "HOME": str(self.home)},
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        return out + err

    def login(self) -> Any:
        """What the file holds for the server."""
        file = self.home / ".config" / "inferctl" / "logins.json"
        return json.loads(file.read_text())[self.server.url]


@pytest.fixture(scope="module")
def inferctl(
    provider: IdentityProvider, server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Inferctl:
    """A client whose user has logged in, for tokens that last for five seconds."""
    client = Inferctl(server, tmp_path_factory.mktemp("home"))
    scope = "openid offline_access generate read"
    asked = ("--client-id", "inferctl", "--scope", scope, "--resource", resource("short"))
    with client.start("login", "--issuer", provider.url, *asked) as process:
        assert process.stderr is not None
        invitation = process.stderr.readline() + process.stderr.readline()
        visit = re.search(r"or visit (\S+)", invitation)
        assert visit, invitation
        assert "Sign-in Success" in confirm_in_browser(visit[1], "ada")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out == f"logged in to {server.url}\n"
    return client


def test_a_login_is_used_and_refreshed_and_ends(inferctl: Inferctl) -> None:
    first = inferctl.login()
    assert "stub" in inferctl("models", "list")
    second = inferctl.login()
    # Five seconds are too few to begin a request with.
    assert second["access_token"] != first["access_token"]
    assert "stub" in inferctl("--api-key", second["access_token"], "models", "list")

    # The provider ends a login whose refresh token is used twice.
    with inferctl.start("models", "list") as one, inferctl.start("models", "list") as other:
        outputs = [process.communicate(timeout=60) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), outputs

    kept = inferctl.login()
    assert inferctl("logout") == f"logged out of {inferctl.server.url}\n"
    assert "API key is required" in inferctl("models", "list", code=4)
    # The provider has forgotten them, too.
    issuer = kept["issuer"]
    form = {"grant_type": "refresh_token", "client_id": "inferctl"}
    again = httpx2.post(f"{issuer}/token", data={**form, "refresh_token": kept["refresh_token"]})
    assert again.json()["error"] == "invalid_grant"
    assert "there is no login" in inferctl("logout", code=1)
