"""Limits, guardrails and audit, set by the environment variables that operators use."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.servers import RunningServer, running_server

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 40,
    "temperature": 0,
}


def raw(server: RunningServer, **changes: Any) -> str:
    with server.client() as client:
        return client.post("/v1/chat/completions", json={**CHAT, **changes}).text


@pytest.fixture(scope="module")
def answer(server: RunningServer) -> str:
    """What the model says when nobody stops it."""
    content: str = json.loads(raw(server))["choices"][0]["message"]["content"]
    return content


@pytest.fixture
def guarded(tmp_path: Path, answer: str) -> Any:
    """A server that may not say what it would say from the tenth to the seventeenth letter."""
    env = {"INFERFLUX_GUARDRAIL_BLOCKLIST": f"{answer[10:17]},swordfish"}
    return running_server(tmp_path, {}, env)


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_word_never_leaves(guarded: Any, answer: str, stream: bool) -> None:
    with guarded as server:
        text = raw(server, stream=stream)
    lines = [json.loads(x.removeprefix("data: ")) for x in text.split("\n\n") if x[:7] == "data: {"]
    if stream:
        said = "".join(c["choices"][0]["delta"].get("content") or "" for c in lines)
        reason = lines[-1]["choices"][0]["finish_reason"]
    else:
        choice = json.loads(text)["choices"][0]
        said, reason = choice["message"]["content"], choice["finish_reason"]
    assert reason == "content_filter"
    assert answer.startswith(said)
    assert len(said) <= 10


def test_every_choice_is_watched_by_itself(guarded: Any, answer: str) -> None:
    with guarded as server:
        text = raw(server, stream=True, n=4)
    choices = [json.loads(x[6:])["choices"] for x in text.split("\n\n") if x[:7] == "data: {"]
    for index in range(4):
        own = [c[0] for c in choices if c and c[0]["index"] == index]
        said = "".join(choice["delta"].get("content") or "" for choice in own)
        assert own[-1]["finish_reason"] == "content_filter"
        assert answer.startswith(said)
        assert len(said) <= 10


@pytest.mark.parametrize("spelling", ["swordfish", "SwordFish", "sw\u200bordfish", "ѕwοrdfish"])  # noqa: RUF001
@pytest.mark.parametrize("role", ["user", "system", "assistant", "tool"])
def test_a_blocked_word_never_reaches_the_model(
    blocked: RunningServer, spelling: str, role: str
) -> None:
    messages = [{"role": role, "content": f"say {spelling}!"}, *CHAT["messages"]]
    with blocked.client() as client:
        response = client.post("/v1/chat/completions", json={**CHAT, "messages": messages})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "content_filter"
    assert "swordfish" not in response.text.lower()


@pytest.fixture(scope="module")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    env = {"INFERFLUX_GUARDRAIL_BLOCKLIST": "swordfish"}
    with running_server(tmp_path_factory.mktemp("blocked"), {}, env) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": [104, 105]}),
        ("/v1/completions", {"prompt": "hi", "logprobs": 1}),
        ("/v1/chat/completions", {**CHAT, "logprobs": True}),
    ],
)
def test_no_way_around_the_guardrails(
    blocked: RunningServer, path: str, body: dict[str, Any]
) -> None:
    with blocked.client() as client:
        response = client.post(path, json=body)
    assert response.status_code == 400
    assert "guardrails" in response.json()["error"]["message"]


def test_a_long_prompt_holds_up_nobody(blocked: RunningServer) -> None:
    def ask(text: str) -> tuple[int, float]:
        begun = time.monotonic()
        body = {**CHAT, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        with blocked.client() as client:
            status = client.post("/v1/chat/completions", json=body).status_code
        return status, time.monotonic() - begun

    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(ask, "a" * 4_000_000)
        took = []
        while not long.done():
            status, seconds = ask("hello")
            assert status == 200
            took.append(seconds)
        status, seconds = long.result()
    assert status == 400
    assert len(took) > 5
    assert max(took) < seconds / 2


def test_limits_and_audit(tmp_path: Path) -> None:
    log = tmp_path / "audit" / "log.jsonl"
    env = {"INFERFLUX_RATE_LIMIT_PER_MINUTE": "2", "INFERFLUX_AUDIT_LOG": str(log)}
    with running_server(tmp_path, {}, env) as server:
        with server.client("generate-key") as client:
            responses = [client.post("/v1/chat/completions", json=CHAT) for _ in range(3)]
        with server.client() as client:
            # Another tenant has a minute of its own.
            assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
            metrics = client.get("/metrics").text
    assert [r.status_code for r in responses] == [200, 200, 429]
    assert responses[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert 1 <= int(responses[2].headers["retry-after"]) <= 61
    assert responses[2].json()["error"]["code"] == "rate_limit_exceeded"

    ours = ("received", "completed")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    records = [record for record in records if record["event"] in ours]
    assert [(r["event"], r["tenant"]) for r in records] == [
        (event, tenant) for tenant in ("acme", "acme", "default") for event in ours
    ]
    assert all(r["completion_tokens"] == 40 for r in records if r["event"] == "completed")
    # Metrics, audit and clients tell the same.
    counted = re.findall(r"^inferflux_requests_total{.*} (.*)$", metrics, re.MULTILINE)
    assert sum(map(float, counted)) == sum(r["event"] == "completed" for r in records) == 3
    assert "hello" not in log.read_text()
    assert "generate-key" not in log.read_text()
