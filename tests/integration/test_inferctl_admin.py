"""`inferctl admin` against a real server: what it changes is in force from the next request on."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import pytest
from support.servers import RunningServer, environment, running_server

from inferflux_cli.main import main

CHAT: dict[str, Any] = {"max_tokens": 4}


@dataclass
class Administrator:
    """Runs `inferctl admin`, and asks the server for answers as others do."""

    server: RunningServer

    def __call__(self, *arguments: str, key: str = "all-key", code: int = 0) -> tuple[str, str]:
        """Run a command, in this process, that ends with `code`; return stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        port = str(self.server.port)
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            patch.setattr(sys, "argv", ["inferctl", "admin", *arguments, "--port", port])
            patch.setattr(sys, "stdin", io.StringIO())
            patch.setenv("INFERCTL_API_KEY", key)
            with pytest.raises(SystemExit) as ended:
                main()
        assert ended.value.code == code, out.getvalue() + err.getvalue()
        return out.getvalue(), err.getvalue()

    def key(self, name: str, *options: str) -> str:
        """Make a key and return it."""
        return self("api-keys", "--add", name, *options)[0].strip()

    def json(self, *arguments: str) -> Any:
        """The object that a command prints."""
        out, err = self(*arguments, "--json")
        assert err == ""
        return json.loads(out)

    def chat(self, key: str, text: str = "hello") -> int:
        """The status of an answer to `text`."""
        body = {**CHAT, "messages": [{"role": "user", "content": text}]}
        with self.server.client(key) as client:
            return client.post("/v1/chat/completions", json=body).status_code


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administrator]:
    folder = tmp_path_factory.mktemp("admin")
    store = folder / "policy.conf"
    init = [sys.executable, "-m", "inferflux_api.policy", "init", "--store", str(store)]
    subprocess.run(init, env=environment(), check=True, capture_output=True, timeout=60)
    config = {"policy_store": str(store), "audit": {"path": str(folder / "audit.jsonl")}}
    with running_server(folder, config) as server:
        yield Administrator(server)
        assert server.stop() == 0, server.log.read_text()


def test_a_key_works_at_once_and_is_gone_at_once(admin: Administrator) -> None:
    out, err = admin("api-keys", "--add", "new-key", "--scopes", "generate,read")
    key = out.strip()

    assert key.startswith("ifx_")
    assert key not in err
    assert admin.chat(key) == 200
    assert any(
        line.split("\t")[1:3] == ["new-key", "generate, read"]
        for line in admin("api-keys", "--list")[0].splitlines()
    )

    admin("api-keys", "--set", "new-key", "--scopes", "read")
    assert admin.chat(key) == 403
    admin("api-keys", "--remove", "new-key", code=2)
    admin("api-keys", "--remove", "new-key", "--yes")
    assert admin.chat(key) == 401
    assert key not in admin("api-keys", "--list", "--json")[0]


def test_a_rate_limit_is_felt_by_the_next_request(admin: Administrator) -> None:
    key = admin.key("limited", "--scopes", "generate", "--tenant", "limited")
    assert "each tenant\t2\t" in admin("rate-limit", "--set", "2")[0]
    assert [admin.chat(key) for _ in range(3)] == [200, 200, 429]

    admin("rate-limit", "--none", "requests-per-minute")
    assert admin.chat(key) == 200
    admin("rate-limit", "--per-key", "--set", "1")
    admin("rate-limit", "--per-key", "--concurrent", "3")
    per_key = admin.json("rate-limit")["per_key"]
    assert (per_key["requests_per_minute"], per_key["concurrent_requests"]) == (1, 3)
    assert [admin.chat(key) for _ in range(2)] == [200, 429]
    assert admin.json("rate-limit", "--reset")["source"] == "configuration"
    assert admin.chat(key) == 200


def test_limits_of_one_key_stay_beside_each_other(admin: Administrator) -> None:
    admin("api-keys", "--add", "own", "--scopes", "generate", "--tokens-per-day", "9000")
    found = admin.json("api-keys", "--set", "own", "--requests-per-minute", "5", "--expires", "1d")
    assert found["limits"]["tokens_per_day"] == 9000
    assert found["limits"]["requests_per_minute"] == 5
    assert found["expires_at"] is not None

    found = admin.json("api-keys", "--set", "own", "--none", "tokens-per-day", "--none", "expires")
    assert found["limits"]["tokens_per_day"] is None
    assert found["expires_at"] is None


def test_words_are_blocked_at_once(admin: Administrator) -> None:
    assert admin.chat("generate-key", "my secret") == 200

    out, err = admin("guardrails", "--set", "secret,pii")
    assert "blocked words\t2\tpolicy" in out
    assert "does not run" not in err
    assert admin.chat("generate-key", "my secret") == 400
    assert admin.chat("generate-key", "my pii") == 400
    assert admin.chat("generate-key", "hello") == 200

    admin("guardrails", "--none", "enabled")
    assert admin.chat("generate-key", "my secret") == 200
    admin("guardrails", "--enable", "blocklist")
    assert admin.chat("generate-key", "my secret") == 400
    assert "blocked words\t0\tconfiguration" in admin("guardrails", "--reset")[0]
    assert admin.chat("generate-key", "my secret") == 200


def test_a_role_a_tenant_and_the_way_back(admin: Administrator) -> None:
    admin("roles", "--set", "writer", "--scopes", "generate")
    key = admin.key("writer", "--roles", "writer", "--tenant", "books")
    before = admin.json("policy")["generation"]
    assert admin.chat(key) == 200

    admin("tenants", "--set", "books", "--disable")
    assert admin.chat(key) == 403
    assert "books\tdisabled" in admin("tenants", "--list")[0]
    admin("roles", "--set", "writer", "--scopes", "read")
    admin("policy", "--rollback", str(before), "--yes")
    assert admin.chat(key) == 200
    assert admin("tenants", "--list")[0] == ""

    history = admin("generations")[0].splitlines()
    assert history[0].startswith(f"{before + 3}\tin force\t")
    assert "roll back" in history[0]
    shown = admin("policy", "--show", str(before + 2))[0]
    assert "books\tdisabled" in shown
    assert "writer\tread\tpolicy" in shown
    out = admin("roles", "--remove", "writer", "--yes", code=1)[1]
    assert "change it first" in out
    admin("api-keys", "--remove", "writer", "--yes")
    admin("roles", "--remove", "writer", "--yes")


def test_scopes_decide_who_may(admin: Administrator) -> None:
    reader = admin.key("auditor", "--scopes", "policy:read,audit:read")

    admin("roles", "--list", key=reader)
    said = admin("rate-limit", "--set", "1", key=reader, code=4)[1]
    assert "with the scope `policy:write`" in said
    said = admin("policy", key="generate-key", code=4)[1]
    assert "with the scope `policy:read`" in said
    writer = admin.key("deputy", "--scopes", "policy:write")
    said = admin("api-keys", "--add", "boss", "--scopes", "admin", key=writer, code=4)[1]
    assert "with the scope `admin`" in said
    out = admin("audit", "--event", "refused", "--since", "5m", "-n", "1000", key=reader)[0]
    assert "insufficient_scope" in out
    assert "ifx_" not in out
    one, note = admin("audit", "-n", "1", key=reader)
    assert len(one.splitlines()) == 1
    assert "earlier ones" in note
    assert admin("audit", "--since", "2001-01-01", "--until", "2001-01-02", key=reader)[0] == ""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("api-keys", "--add", "all-key", "--scopes", "fly"), "scopes"),
        (("api-keys", "--add", "idle"), "could do nothing"),
        (("api-keys", "--add", "a", "--roles", "none such"), "there is no role 'none such'"),
        (("api-keys", "--remove", "all", "--yes"), "one of the server's configuration"),
        (("api-keys", "--remove", "admin", "--yes"), "nobody would be left to administer"),
        (("policy", "--show", "99999"), "there is no generation 99999"),
        (("policy", "--rollback", "99999", "--yes"), "there is no generation 99999"),
        (("roles", "--set", "a/b", "--scopes", "read"), "error: "),
        (("roles", "--set", "..", "--scopes", "fly"), "scopes"),
        (("guardrails", "--enable", "nonesuch"), "nonesuch"),
    ],
)
def test_what_the_server_refuses_is_explained(
    admin: Administrator, command: tuple[str, ...], says: str
) -> None:
    before = admin.json("policy")["generation"]

    assert says in admin(*command, code=1)[1]

    assert admin.json("policy")["generation"] == before
