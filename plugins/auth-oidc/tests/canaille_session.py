"""Runs a real identity provider, Canaille, until standard input closes; see its test.

This is a test file for the provider's own environment, so that pytest-iam can set the provider up.
It prints one line of JSON: the issuer, a token of a user in the group `generate`, and its audience.
"""

from __future__ import annotations

import json
import sys
from urllib.parse import parse_qs, urlsplit

import httpx
from pytest_iam import Server

CLIENT = "inferflux"
CALLBACK = "http://localhost/callback"


def test_serve(iam_server: Server) -> None:
    user = iam_server.random_user(user_name="ada")
    group = iam_server.models.Group(display_name="generate", members=[user])
    iam_server.backend.save(group)
    client = iam_server.models.Client(
        client_id=CLIENT,
        client_secret="secret",
        client_name=CLIENT,
        client_uri="http://localhost",
        redirect_uris=[CALLBACK],
        grant_types=["authorization_code"],
        response_types=["code"],
        token_endpoint_auth_method="client_secret_basic",
        scope=["openid", "groups"],
    )
    iam_server.backend.save(client)
    client.audience = [client]
    iam_server.backend.save(client)
    iam_server.login(user)
    iam_server.consent(user, client)

    answer = {"issuer": iam_server.url.rstrip("/"), "token": log_in(iam_server.url)}
    print(f"\n{json.dumps(answer)}", flush=True)
    sys.stdin.read()


def log_in(url: str) -> str:
    """The authorization code flow, as a browser and an application would go through it."""
    with httpx.Client(base_url=url) as browser:
        parameters = {
            "response_type": "code",
            "client_id": CLIENT,
            "scope": "openid groups",
            "redirect_uri": CALLBACK,
            "nonce": "n",
        }
        redirect = browser.get("oauth/authorize", params=parameters).headers["location"]
        form = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(redirect).query)["code"][0],
            "redirect_uri": CALLBACK,
        }
        tokens = browser.post("oauth/token", data=form, auth=(CLIENT, "secret")).json()
    return str(tokens["access_token"])
