"""The API of administrators: what it changes holds from the next request on, here and in other servers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.postgres_servers import postgres_server
from support.redis_servers import redis_server
from support.servers import KEYS, RunningServer, environment, running_server

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("admin")
    file = folder / "weights.gguf"
    file.touch()
    config = {
        "models": [{"name": name, "path": str(file)} for name in ("one", "two")],
        "audit": {"path": str(folder / "audit.jsonl")},
        "auth": {"api_keys": KEYS, "roles": {"operator": ["models:write"]}},
    }
    with running_server(folder, config) as server:
        yield server


@pytest.fixture
def admin(server: RunningServer) -> Iterator[httpx2.Client]:
    """A client of an administrator; what it left behind is taken away."""
    with server.client() as client:
        yield client
        for key in client.get("/v1/admin/api_keys").json()["data"]:
            if key["id"] is not None:
                client.delete(f"/v1/admin/api_keys/{key['id']}")
        for kind in ("roles", "tenants"):
            for entry in client.get(f"/v1/admin/{kind}").json()["data"]:
                client.delete(f"/v1/admin/{kind}/{entry['name']}")
        for kind in ("rate_limit", "guardrails"):
            client.delete(f"/v1/admin/{kind}")


def done(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refused(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["error"]["message"])


def chat(server: RunningServer, key: str, text: str = "hello", model: str = "one") -> int:
    body = {**CHAT, "model": model, "messages": [{"role": "user", "content": text}]}
    with server.client(key) as client:
        return client.post("/v1/chat/completions", json=body).status_code


def test_the_life_of_a_key(server: RunningServer, admin: httpx2.Client) -> None:
    made = done(
        admin.post(
            "/v1/admin/api_keys", json={"name": "app", "scopes": ["generate"], "tenant": "t"}
        )
    )
    value, path = made.pop("value"), f"/v1/admin/api_keys/{made['id']}"
    assert value.startswith(made["redacted_value"].rstrip("."))
    assert chat(server, value) == 200
    listed = done(admin.get("/v1/admin/api_keys"))
    assert {k: v for k, v in made.items() if k != "generation"} in listed["data"]
    assert value not in str(listed)
    assert [key["source"] for key in listed["data"]] == ["configuration"] * 3 + ["policy"]

    changed = done(admin.post(path, json={"scopes": ["read"]}))
    assert (changed["scopes"], changed["tenant"]) == (["read"], "t")
    assert chat(server, value) == 403
    done(admin.post(path, json={"scopes": ["generate"], "expires_at": 1.0}))
    assert chat(server, value) == 401
    done(admin.post(path, json={"expires_at": None}))
    assert chat(server, value) == 200
    assert done(admin.delete(path))["deleted"] is True
    assert chat(server, value) == 401
    assert "no API key" in refused(admin.get(path), 404)


def test_nobody_grants_more_than_they_have(server: RunningServer, admin: httpx2.Client) -> None:
    body = {"name": "writer", "scopes": ["policy:write", "generate"]}
    value = done(admin.post("/v1/admin/api_keys", json=body))["value"]
    with server.client(value) as writer:
        assert done(writer.get("/v1/admin/policy"))["generation"] > 0
        for scopes, status in ((["generate"], 200), (["read"], 403), (["admin"], 403)):
            body = {"name": f"by-writer-{scopes[0]}", "scopes": scopes}
            assert writer.post("/v1/admin/api_keys", json=body).status_code == status
        assert "scope 'audit:read'" in refused(writer.get("/v1/admin/audit"), 403)


def test_a_role_holds_for_its_keys_at_once(server: RunningServer, admin: httpx2.Client) -> None:
    done(admin.post("/v1/admin/roles/users", json={"scopes": ["read"]}))
    body = {"name": "app", "roles": ["users"]}
    value = done(admin.post("/v1/admin/api_keys", json=body))["value"]
    assert chat(server, value) == 403
    done(admin.post("/v1/admin/roles/users", json={"scopes": ["generate"]}))
    assert chat(server, value) == 200
    assert "has the role" in refused(admin.delete("/v1/admin/roles/users"), 409)
    problem = refused(admin.post("/v1/admin/roles/operator", json={"scopes": ["read"]}), 409)
    assert "configuration" in problem


def test_models_of_others_are_not_there(server: RunningServer, admin: httpx2.Client) -> None:
    body = {"name": "app", "scopes": ["generate", "read"], "tenant": "t", "models": ["one"]}
    value = done(admin.post("/v1/admin/api_keys", json=body))["value"]
    assert (chat(server, value, model="one"), chat(server, value, model="two")) == (200, 404)
    with server.client(value) as client:
        assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["one"]
        assert client.get("/v1/models/two").status_code == 404
        assert [m["name"] for m in client.get("/api/tags").json()["models"]] == ["one:latest"]
        assert client.post("/api/show", json={"model": "two"}).status_code == 404
        assert len(client.get("/api/v0/models").json()["data"]) == 1
        assert "two" not in client.post("/v1/chat/completions", json={**CHAT, "model": "x"}).text
    done(admin.post("/v1/admin/tenants/t", json={"models": ["two"]}))
    assert chat(server, value, model="one") == 404
    done(admin.post("/v1/admin/tenants/t", json={"disabled": True}))
    assert chat(server, value) == 403


def test_limits(server: RunningServer, admin: httpx2.Client) -> None:
    shown = done(admin.post("/v1/admin/rate_limit", json={"requests_per_minute": 1}))
    assert (shown["requests_per_minute"], shown["source"]) == (1, "policy")
    assert [chat(server, "generate-key") for _ in range(2)] == [200, 429]
    done(admin.post("/v1/admin/rate_limit", json={"requests_per_minute": None}))
    assert chat(server, "generate-key") == 200
    body = {"name": "slow", "scopes": ["generate"], "limits": {"requests_per_minute": 1}}
    value = done(admin.post("/v1/admin/api_keys", json=body))["value"]
    assert [chat(server, value) for _ in range(2)] == [200, 429]
    assert done(admin.delete("/v1/admin/rate_limit"))["source"] == "configuration"


def test_guardrails(server: RunningServer, admin: httpx2.Client) -> None:
    assert chat(server, "generate-key", "swordfish") == 200
    shown = done(admin.post("/v1/admin/guardrails", json={"blocklist": ["swordfish"]}))
    assert shown["enabled"] == ["blocklist"]
    assert "blocklist" in shown["available"]
    assert chat(server, "generate-key", "swordfish") == 400
    options = {"blocklist": {"action": "flag"}}
    done(admin.post("/v1/admin/guardrails", json={"options": options}))
    assert chat(server, "generate-key", "swordfish") == 200
    before = done(admin.get("/v1/admin/guardrails"))
    for body in ({"enabled": ["nothing"]}, {"options": {"blocklist": {"acton": "flag"}}}):
        assert refused(admin.post("/v1/admin/guardrails", json=body), 400)
    assert done(admin.get("/v1/admin/guardrails")) == before


def test_a_stream_ends_by_the_rules_it_began_with(
    server: RunningServer, admin: httpx2.Client
) -> None:
    prompt = [{"role": "user", "content": "[slow]"}]
    body = {"messages": prompt, "model": "one", "temperature": 0, "max_tokens": 60}
    path = "/v1/chat/completions"
    said = done(admin.post(path, json=body))["choices"][0]["message"]["content"]
    with admin.stream("POST", path, json={**body, "stream": True}) as response:
        lines = response.iter_lines()
        next(lines)
        done(admin.post("/v1/admin/guardrails", json={"blocklist": [said[40:50]]}))
        text = "\n".join(lines)
    assert '"finish_reason":"length"' in text
    assert done(admin.post(path, json=body))["choices"][0]["finish_reason"] == "content_filter"


def test_the_way_back(server: RunningServer, admin: httpx2.Client) -> None:
    done(admin.post("/v1/admin/guardrails", json={"blocklist": ["swordfish"]}))
    good = done(admin.get("/v1/admin/policy"))
    assert good["change"]["by"] == "all"
    done(admin.post("/v1/admin/guardrails", json={"blocklist": []}))
    assert chat(server, "generate-key", "swordfish") == 200
    shown = done(admin.post("/v1/admin/policy/rollback", json={"generation": good["generation"]}))
    assert shown["generation"] == good["generation"] + 2
    assert chat(server, "generate-key", "swordfish") == 400
    history = done(admin.get("/v1/admin/policy/generations"))["data"]
    assert history[0]["change"]["what"] == f"roll back to {good['generation']}"
    then = done(admin.get(f"/v1/admin/policy/generations/{good['generation']}"))
    assert then["guardrails"]["blocklist"] == ["swordfish"]
    assert "digest" not in str(then)
    assert refused(admin.post("/v1/admin/policy/rollback", json={"generation": 9999}), 404)


def test_who_saw_an_older_policy_is_told(admin: httpx2.Client) -> None:
    response = admin.post("/v1/admin/rate_limit", json={"requests_per_minute": 500})
    etag = response.headers["etag"]
    assert etag == f'"{response.json()["generation"]}"'
    body = {"requests_per_minute": 600}
    done(admin.post("/v1/admin/rate_limit", json=body, headers={"if-match": etag}))
    again = admin.post("/v1/admin/rate_limit", json=body, headers={"if-match": etag})
    assert "generation" in refused(again, 412)
    bad = admin.post("/v1/admin/rate_limit", json=body, headers={"if-match": "seven"})
    assert "If-Match" in refused(bad, 400)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("api_keys", {}),
        ("api_keys", {"name": "x"}),
        ("api_keys", {"name": "x", "scopes": ["everything"]}),
        ("api_keys", {"name": "x\n", "scopes": ["read"]}),
        ("api_keys", {"name": "x", "scopes": ["read"], "roles": ["nobody"]}),
        ("api_keys", {"name": "x", "scopes": ["read"], "expires_at": 9, "expires_in": 9}),
        ("api_keys", {"name": "x", "scopes": ["read"], "limits": {"request_per_minute": 9}}),
        ("rate_limit", {"requests_per_minute": 0}),
        ("rate_limit", {"storage": "redis://elsewhere"}),
        ("roles/a%0Ab", {"scopes": ["read"]}),
        ("tenants/t", {"limit": {}}),
        ("guardrails", {"blocklist": "word"}),
        ("policy/rollback", {"generation": 0}),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    admin: httpx2.Client, path: str, body: dict[str, Any]
) -> None:
    before = done(admin.get("/v1/admin/policy"))["generation"]
    assert refused(admin.post(f"/v1/admin/{path}", json=body), 400)
    assert done(admin.get("/v1/admin/policy"))["generation"] == before


def test_changes_are_in_the_audit_log(server: RunningServer, admin: httpx2.Client) -> None:
    done(admin.post("/v1/admin/roles/auditors", json={"scopes": ["audit:read"]}))
    found = done(admin.get("/v1/admin/audit", params={"event": "acted", "limit": 1}))
    (record,) = found["data"]
    assert (record["subject"], record["target"], record["outcome"]) == ("all", "auditors", "ok")
    assert record["action"] == "POST /v1/admin/roles/{name}"
    assert found["has_more"] is True
    for parameters in ({"limit": 0}, {"since": "soon"}, {"evnt": "acted"}):
        assert refused(admin.get("/v1/admin/audit", params=parameters), 400)
    with server.client("read-key") as reader:
        assert refused(reader.get("/v1/admin/audit"), 403)


@pytest.fixture(params=["file", "redis", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A policy store in which several servers can look."""
    with ExitStack() as stack:
        if request.param == "file":
            store = str(tmp_path / "policy.conf")
        elif request.param == "redis":
            store = stack.enter_context(redis_server(tmp_path)).url
        else:
            store = stack.enter_context(postgres_server()).url
        begin = [sys.executable, "-m", "inferflux_api.policy", "init", "--store", store]
        subprocess.run(begin, env=environment(), check=True, capture_output=True)
        yield store


def test_a_key_that_is_taken_back_stops_on_all_servers(shared: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        config = {"policy_store": shared}
        one, two = (stack.enter_context(running_server(tmp_path, config)) for _ in range(2))
        admin = stack.enter_context(one.client())
        seconds = []
        for round_number in range(5):
            body = {"name": f"app{round_number}", "scopes": ["generate"]}
            made = done(admin.post("/v1/admin/api_keys", json=body))
            wait_for(lambda key=made["value"]: chat_on(two, key) == 200)
            done(admin.delete(f"/v1/admin/api_keys/{made['id']}"))
            assert chat_on(one, made["value"]) == 401
            began = time.monotonic()
            wait_for(lambda key=made["value"]: chat_on(two, key) == 401)
            seconds.append(time.monotonic() - began)
        kind = shared.partition(":")[0] if ":" in shared else "file"
        print(
            f"\n{kind}: revoked on one server, refused by the other in {max(seconds):.2f} s at most"
        )
        assert max(seconds) < 1.0


def chat_on(server: RunningServer, key: str) -> int:
    with server.client(key) as client:
        return client.post("/v1/chat/completions", json=CHAT).status_code


def wait_for(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
