"""The policy store from the outside: the command writes it, a server obeys it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from support.servers import RunningServer, command, environment, free_port, running_server

SECRET = "correct horse battery staple"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


def variables(store: Path, passphrase: str = SECRET) -> dict[str, str]:
    return {"INFERFLUX_POLICY_STORE": str(store), "INFERFLUX_POLICY_PASSPHRASE": passphrase}


def policy(store: Path, name: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "inferflux_api.policy",
            name,
            "--json",
            "--store",
            store,
            *arguments,
        ],
        env=environment({"INFERFLUX_POLICY_PASSPHRASE": SECRET}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def chat(server: RunningServer, key: str, text: str = "hello") -> int:
    body = {**CHAT, "messages": [{"role": "user", "content": text}]}
    with server.client(key) as client:
        return client.post("/v1/chat/completions", json=body).status_code


def test_a_server_obeys_its_store(tmp_path: Path) -> None:
    store = tmp_path / "policy.bin"
    root = policy(store, "init")["key"]
    kept = policy(store, "add-key", "--name", "kept", "--scope", "generate", "--tenant", "one")
    gone = policy(store, "add-key", "--name", "gone", "--scope", "generate", "--tenant", "two")
    # No key and no provider in the configuration; its blocklist and its limit lose.
    config = {
        "auth": {"api_keys": []},
        "guardrails": {"blocklist": ["hello"]},
        "rate_limit": {"requests_per_minute": 1},
    }

    with running_server(tmp_path, config, variables(store)) as server:
        with server.client(root) as admin:
            ask(admin, "POST", "guardrails", {"blocklist": ["swordfish"]})
            ask(admin, "POST", "rate_limit", {"requests_per_minute": 2})
        assert chat(server, "all-key") == 401
        assert chat(server, gone["key"]) == 200
        assert chat(server, kept["key"], "swordfish") == 400
        assert chat(server, kept["key"]) == 200
        assert chat(server, kept["key"]) == 429
        with server.client(kept["key"]) as client:
            assert client.get("/metrics").status_code == 403
        assert server.stop() == 0
    log = server.log.read_text()
    for secret in (kept["key"], gone["key"], root, SECRET, "swordfish"):
        assert secret not in log

    policy(store, "remove-key", gone["id"])
    with running_server(tmp_path, {}, variables(store)) as server:
        assert chat(server, gone["key"]) == 401
        assert chat(server, kept["key"]) == 200
        # Keys of the configuration work beside those of the store.
        assert chat(server, "all-key") == 200


def ask(client: httpx2.Client, method: str, path: str, body: Any = None) -> dict[str, Any]:
    response = client.request(method, f"/v1/admin/{path}", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize(
    ("passphrase", "message"),
    [
        ("", "is sealed"),
        ("too short", "shorter than 16 characters"),
        ("another phrase than that", "another passphrase"),
    ],
)
def test_no_service_without_the_passphrase(tmp_path: Path, passphrase: str, message: str) -> None:
    store = tmp_path / "policy.bin"
    policy(store, "init")
    status, said = start(tmp_path, variables(store, passphrase))
    assert status == 1
    assert message in said
    assert "hint" in said
    assert "Traceback" not in said


def test_no_service_without_the_store(tmp_path: Path) -> None:
    status, said = start(tmp_path, variables(tmp_path / "missing.bin"))
    assert status == 1
    assert f"python -m inferflux_api.policy init --store {tmp_path / 'missing.bin'}" in said


def start(folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """Run a server that ought to give up; returns its exit status and what it said."""
    file = folder / "server.yaml"
    file.write_text(
        yaml.safe_dump({"server": {"port": free_port()}, "runtime": {"backend": "stub"}})
    )
    done = subprocess.run(
        command(file),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(env),
        cwd=folder,
        check=False,
    )
    return done.returncode, done.stderr
