from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import pytest
from litestar.handlers import HTTPRouteHandler
from support.servers import RunningServer, running_server

from inferflux_api import health
from inferflux_api.admin import routes as administration
from inferflux_api.dialects.registry import DIALECTS
from inferflux_api.governance import authentication
from inferflux_core.auth import SCOPES, Principal

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
PUBLIC = {"/", "/livez", "/healthz", "/readyz", "/api/version", "/lmstudio-greeting"}


@pytest.mark.parametrize(
    ("key", "generate", "read"),
    [
        (None, 401, 401),
        ("wrong", 401, 401),
        ("all-key", 200, 200),
        ("generate-key", 200, 403),
        ("read-key", 403, 200),
    ],
)
def test_scopes(server: RunningServer, key: str | None, generate: int, read: int) -> None:
    with server.client(key) as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == generate
        assert client.get("/v1/models").status_code == read
        assert client.get("/metrics").status_code == read


def test_every_route_is_closed_without_a_key(server: RunningServer) -> None:
    with server.client("read-key") as client:
        paths = client.get("/openapi.json").json()["paths"]
    with server.client(None) as client:
        for path, operations in paths.items():
            for method in operations:
                status = client.request(method.upper(), re.sub(r"{\w+}", "1", path)).status_code
                assert status == (200 if path in PUBLIC else 401), (method, path)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic YWxsLWtleQ==", "all-key", "Bearer wrong key", "Bearer " + "x" * 5000],
)
def test_malformed_credentials(server: RunningServer, header: str) -> None:
    with server.client(None) as client:
        response = client.get("/v1/models", headers={"authorization": header})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_two_credentials_are_one_too_many(server: RunningServer) -> None:
    with server.client(None) as client:
        headers = [("authorization", "Bearer all-key"), ("authorization", "Bearer read-key")]
        assert client.get("/v1/models", headers=headers).status_code == 401


def test_the_other_header_works_too(server: RunningServer) -> None:
    with server.client(None) as client:
        assert client.get("/v1/models", headers={"x-api-key": "read-key"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["//v1/models", "/v1/models/../models", "/V1/MODELS", "/v1/%6dodels"]
)
def test_no_spelling_of_a_path_opens_it(server: RunningServer, path: str) -> None:
    with server.client(None) as client:
        assert client.get(path).status_code in {401, 404}


@pytest.fixture(scope="module")
def by_role(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    keys: list[dict[str, object]] = [
        {"key": f"only {scope}", "scopes": [scope]} for scope in SCOPES
    ]
    keys += [
        {"key": "models-key", "scopes": ["models:write"]},
        {"key": "adapters-key", "scopes": ["adapters:write"]},
        {"key": "operator-key", "scopes": ["read"], "roles": ["operator"]},
        {"key": "admin-key", "scopes": ["admin"]},
    ]
    auth = {"roles": {"operator": ["models:write", "adapters:write"]}, "api_keys": keys}
    with running_server(tmp_path_factory.mktemp("roles"), {"auth": auth}) as server:
        yield server


@pytest.mark.parametrize(
    ("key", "models", "adapters", "read", "generate"),
    [
        ("models-key", True, False, False, False),
        ("adapters-key", False, True, False, False),
        ("operator-key", True, True, True, False),
        ("admin-key", True, True, True, True),
    ],
)
def test_finer_scopes_and_roles(
    by_role: RunningServer, key: str, models: bool, adapters: bool, read: bool, generate: bool
) -> None:
    with by_role.client(key) as client:
        found = {
            "models": client.post("/v1/models/unload", json={"model": "none"}),
            "library": client.post("/api/pull", json={"model": "none"}),
            "adapters": client.post("/v1/unload_lora_adapter", json={"lora_name": "none"}),
            "read": client.get("/v1/models"),
            "generate": client.post("/v1/chat/completions", json=CHAT),
        }
    allowed = {name: response.status_code != 403 for name, response in found.items()}
    assert allowed == {
        "models": models,
        "library": models,
        "adapters": adapters,
        "read": read,
        "generate": generate,
    }


def test_a_scope_opens_its_own_routes_and_no_others(by_role: RunningServer) -> None:
    """Of what is served, not of a list that somebody keeps."""
    handlers = [
        handler
        for routes in (health.ROUTES, administration.ROUTES, *(d.routes for d in DIALECTS))
        for handler in routes
        if isinstance(handler, HTTPRouteHandler) and handler.opt["scope"] != authentication.PUBLIC
    ]
    assert {handler.opt["scope"] for handler in handlers} >= SCOPES - {"admin"}
    for scope in SCOPES - {"admin"}:
        with by_role.client(f"only {scope}") as client:
            for handler in handlers:
                if Principal("", frozenset({scope})).allows(handler.opt["scope"]):
                    continue
                for path, method in product(handler.paths, handler.http_methods):
                    response = client.request(method, re.sub(r"{.*?}", "1", path))
                    assert response.status_code == 403, (scope, method, path)


@pytest.mark.parametrize(
    "credential",
    [
        "' OR '1'='1",
        "x'; DROP TABLE policy; --",
        '{"$ne": null}',
        "*)(uid=*))(|(uid=*",
        "%s%n{0.__class__}",
        "${jndi:ldap://127.0.0.1/x}",
        "all-key\u200b",
        "../../etc/passwd",
    ],
)
def test_a_credential_is_compared_and_nothing_else(server: RunningServer, credential: str) -> None:
    for headers in ({"authorization": f"Bearer {credential}"}, {"x-api-key": credential}):
        encoded = {name: value.encode() for name, value in headers.items()}
        with server.client(None) as client:
            response = client.get("/v1/models", headers=encoded)
        assert response.status_code == 401
        assert credential not in response.text
