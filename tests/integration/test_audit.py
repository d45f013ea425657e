"""The audit log of a real server: every dialect and protocol, and what happens when it cannot be written."""

from __future__ import annotations

import json
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from litestar.handlers import HTTPRouteHandler
from support.rpc import Client, channel
from support.servers import RunningServer, command, environment, free_port, running_server
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from inferflux_api.dialects.registry import DIALECTS
from inferflux_api.governance.audit.actions import is_action
from inferflux_api.grpc.protos import xai_pb2 as xai

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "model": "one"}
SECRET = "such-a-secret-key"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(folder: Path, port: int) -> Iterator[RunningServer]:
    file = folder / "weights.gguf"
    file.write_bytes(b"GGUF")
    models = [{"path": str(file), "name": n, "load": "on_demand"} for n in ("one", "two")]
    config = {
        "models": models,
        "audit": {"path": str(folder / "audit.jsonl")},
        "server": {"grpc": {"port": port}, "max_body_bytes": 10_000},
    }
    with running_server(folder, config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def since(server: RunningServer, folder: Path) -> Callable[[], list[dict[str, Any]]]:
    """What was noted since the test began."""
    log = folder / "audit.jsonl"
    start = log.stat().st_size
    return lambda: [json.loads(line) for line in log.read_bytes()[start:].splitlines()]


def acts(records: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        tuple(r.get(key, "") for key in ("event", "subject", "action", "target", "outcome"))
        for r in records
        if r["event"] in ("action", "acted")
    ]


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def disk_full(server: RunningServer, log: Path) -> Iterator[None]:
    """The server can write no file beyond the size of its log."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("path", "body", "target", "outcome"),
    [
        ("/v1/models/load", {"model": "one"}, "one", "ok"),
        ("/v1/models/unload", {"model": "one"}, "one", "ok"),
        ("/v1/models/unload", {"model": "none"}, "none", "model_not_found"),
        ("/v1/models/load", {"model": 5}, "", "invalid_request"),
        ("/v1/load_lora_adapter", {"lora_name": "s", "lora_path": "/x"}, "s /x", None),
        ("/api/v1/models/load", {"model": "two"}, "two", "ok"),
        ("/api/v1/models/unload", {"instance_id": "two"}, "two", "ok"),
        ("/api/copy", {"source": "one", "destination": "uno"}, "one uno", None),
        ("/api/push", {"model": "one"}, "", "invalid_request"),
    ],
)
def test_actions_are_noted_before_and_after(
    server: RunningServer,
    since: Callable[[], list[dict[str, Any]]],
    path: str,
    body: dict[str, Any],
    target: str,
    outcome: str | None,
) -> None:
    with server.client() as client:
        response = client.post(path, json={**body, "unknown": SECRET})
    eventually(lambda: len(acts(since())) == 2)
    before, after = acts(since())
    assert before == ("action", "all", f"POST {path}", target, "")
    assert after[:4] == ("acted", "all", f"POST {path}", target)
    assert after[4] == outcome or (outcome is None and response.status_code >= 400)
    assert (after[4] == "ok") == (response.status_code == 200)
    assert {r["client"] for r in since() if r["event"] == "acted"} == {"127.0.0.1"}


def test_no_route_that_changes_the_server_is_left_out(
    server: RunningServer, since: Callable[[], list[dict[str, Any]]]
) -> None:
    handlers = [handler for dialect in DIALECTS for handler in dialect.routes]
    routes = {
        f"{method} {re.sub(r':[a-z]+}', '}', path)}"
        for handler in handlers
        if isinstance(handler, HTTPRouteHandler) and is_action(handler.opt["scope"])
        for method in handler.http_methods - {"GET", "HEAD", "OPTIONS"}
        for path in handler.paths
    }
    assert {"POST /v1/models/load", "DELETE /api/delete"} <= routes
    with server.client() as client:
        for route in routes:
            method, _, path = route.partition(" ")
            client.request(method, re.sub(r"{\w+}", "x", path), json={})
    eventually(lambda: [r[0] for r in acts(since())].count("acted") == len(routes))
    for event in ("action", "acted"):
        assert {r[2] for r in acts(since()) if r[0] == event} == routes


def test_looking_is_no_action(
    server: RunningServer, since: Callable[[], list[dict[str, Any]]]
) -> None:
    with server.client() as client:
        client.get("/v1/models")
        client.get("/api/v1/models/download/status/x")
        client.head("/api/blobs/sha256:00")
    assert acts(since()) == []


def test_unloading_by_keep_alive_is_an_action(
    server: RunningServer, since: Callable[[], list[dict[str, Any]]]
) -> None:
    with server.client() as client:
        client.post("/api/generate", json={"model": "one"})
        assert acts(since()) == []
        client.post("/api/generate", json={"model": "one", "keep_alive": 0})
    assert [r[2:] for r in acts(since())] == [
        ("unload by keep_alive", "one", ""),
        ("unload by keep_alive", "one", "ok"),
    ]


@contextmanager
def sdk(server: RunningServer, passkey: str) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{server.port}/llm") as connection:
        frame = {"authVersion": 1, "clientIdentifier": "x", "clientPasskey": passkey}
        connection.send(json.dumps(frame))
        connection.recv(timeout=10)
        yield connection


def test_actions_and_refusals_of_lm_studios_sdk(
    server: RunningServer, since: Callable[[], list[dict[str, Any]]]
) -> None:
    with sdk(server, "all-key") as connection:
        frame = {"type": "channelCreate", "endpoint": "loadModel", "channelId": 1}
        connection.send(json.dumps({**frame, "creationParameter": {"modelKey": "one"}}))
        while json.loads(connection.recv(timeout=10))["type"] != "channelClose":
            pass
        frame = {"type": "rpcCall", "endpoint": "unloadModel", "callId": 2}
        for name in ("one", "none"):
            connection.send(json.dumps({**frame, "parameter": {"identifier": name}}))
            connection.recv(timeout=10)
    assert [r[2:] for r in acts(since()) if r[0] == "acted"] == [
        ("llm.loadModel", "one", "ok"),
        ("llm.unloadModel", "one", "ok"),
        ("llm.unloadModel", "none", "model_not_found"),
    ]
    with sdk(server, "read-key") as connection:
        connection.send(json.dumps({**frame, "parameter": {"identifier": "one"}}))
        connection.recv(timeout=10)
    with sdk(server, SECRET):
        pass
    refused = [r for r in since() if r["event"] == "refused"]
    assert [(r["reason"], r.get("subject"), r["action"]) for r in refused] == [
        ("insufficient_scope", "read", "llm.unloadModel"),
        ("invalid_api_key", None, "llm.login"),
    ]


def test_refusals_over_http_websocket_and_grpc(
    server: RunningServer, since: Callable[[], list[dict[str, Any]]], port: int
) -> None:
    with server.client(SECRET) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.post(f"/v1/models/load?key={SECRET}", json=CHAT).status_code == 401
    with server.client("read-key") as client:
        assert client.post("/v1/models/load", json={"model": "one"}).status_code == 403
    address = f"ws://127.0.0.1:{server.port}/v1/responses"
    with pytest.raises(InvalidStatus), connect(address):
        pass
    service = xai.DESCRIPTOR.services_by_name["Models"]
    with channel(port) as made, pytest.raises(grpc.RpcError):
        Client(made, service, {"authorization": "Bearer generate-key"}).ListLanguageModels(b"")
    refused = [r for r in since() if r["event"] == "refused"]
    assert [(r["reason"], r.get("subject"), r["action"]) for r in refused] == [
        ("invalid_api_key", None, "GET /v1/models"),
        ("invalid_api_key", None, "POST /v1/models/load"),
        ("insufficient_scope", "read", "POST /v1/models/load"),
        ("invalid_api_key", None, "WEBSOCKET /v1/responses"),
        ("insufficient_scope", "generate", "/xai_api.Models/ListLanguageModels"),
    ]
    assert acts(since()) == []


def test_no_audit_no_action_no_answer_and_then_it_goes_on(
    server: RunningServer, folder: Path, since: Callable[[], list[dict[str, Any]]]
) -> None:
    with server.client() as client, server.client(SECRET) as stranger:
        assert client.post("/v1/models/load", json={"model": "one"}).status_code == 200
        eventually(lambda: len(acts(since())) == 2)
        with disk_full(server, folder / "audit.jsonl"):
            refused = [
                client.post("/v1/chat/completions", json=CHAT),
                client.post("/v1/models/unload", json={"model": "one"}),
                client.request("DELETE", "/api/delete", json={"model": "one"}),
                client.post("/api/push"),
                stranger.get("/v1/models"),
            ]
            assert [response.status_code for response in refused] == [503] * 5
            assert "audit" in refused[0].json()["error"]["message"]
            assert client.get("/livez").status_code == 200
            state = client.get("/v1/models/one").json()
        assert "unloaded" not in json.dumps(state)
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert stranger.get("/v1/models").status_code == 401
        failures = re.search(r"inferflux_audit_failures_total (\d+)", client.get("/metrics").text)
    assert failures is not None
    assert int(failures[1]) >= 5


def test_nothing_secret_is_in_it_and_it_is_whole(server: RunningServer, folder: Path) -> None:
    log = folder / "audit.jsonl"
    text = log.read_text()
    assert "hello" not in text
    for secret in (SECRET, "all-key", "read-key", "generate-key"):
        assert secret not in text
    inferctl = [sys.executable, "-m", "inferflux_cli", "audit"]
    verified = subprocess.run(
        [*inferctl, "verify", str(log), "--public-key", f"{log}.pub", "--output", "json"],
        capture_output=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["status"] == "intact"
    found = subprocess.run(
        [*inferctl, "search", str(log), "--event", "refused", "--subject", "read", "--json"],
        capture_output=True,
        check=True,
    )
    records = [json.loads(line) for line in found.stdout.splitlines()]
    assert {(r["event"], r["subject"]) for r in records} == {("refused", "read")}


def test_only_a_proxy_on_this_machine_says_who_calls(
    server: RunningServer, since: Callable[[], list[dict[str, Any]]]
) -> None:
    for here, noted in (("127.0.0.1", "192.0.2.1"), ("127.0.0.2", "127.0.0.2")):
        with socket.create_connection(
            ("127.0.0.1", server.port), timeout=10, source_address=(here, 0)
        ) as connection:
            connection.sendall(
                b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.1\r\n\r\n"
            )
            assert b" 401 " in connection.recv(65536)
        assert since()[-1]["client"] == noted


def test_a_second_server_on_the_same_log_does_not_start(
    server: RunningServer, folder: Path, tmp_path: Path
) -> None:
    del server
    config = tmp_path / "second.yaml"
    config.write_text("runtime: {backend: scripted}\n")
    done = subprocess.run(
        command(config, "--port", str(free_port()), "-o", f"audit.path={folder / 'audit.jsonl'}"),
        capture_output=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert b"another server writes" in done.stderr


def test_a_limit_is_a_refusal_and_redacted_prompts_hold_no_secret(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    config = {
        "audit": {"path": str(log), "prompts": "redacted"},
        "guardrails": {"blocklist": [SECRET], "options": {"blocklist": {"action": "mask"}}},
        "rate_limit": {"requests_per_minute": 2},
    }
    with running_server(tmp_path, config) as server, server.client() as client:
        body = {"messages": [{"role": "user", "content": f"say {SECRET}"}], "max_tokens": 2}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert client.post("/tokenize", json={"prompt": f"say {SECRET}"}).status_code == 200
        assert client.post("/v1/chat/completions", json=body).status_code == 429
    records = [json.loads(line) for line in log.read_bytes().splitlines()]
    prompts = [json.dumps(r["prompts"]) for r in records if r["event"] == "prompt"]
    assert ["say " in prompt for prompt in prompts] == [True, True]
    assert SECRET not in log.read_text()
    (refused,) = (r for r in records if r["event"] == "refused")
    assert (refused["reason"], refused["subject"]) == ("rate_limit_exceeded", "all")


def test_kill_9_of_a_server_loses_no_record_of_what_it_answered(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    answered = 0
    for _ in range(2):
        with running_server(tmp_path, {"audit": {"path": str(log)}}) as server:
            with server.client() as client:
                for _ in range(20):
                    response = client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1})
                    answered += response.status_code == 200
            server.process.kill()
            server.process.wait()
    records = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert [r["event"] for r in records].count("received") == answered == 40
    assert [r["event"] for r in records].count("started") == 2
