"""Limits of whole servers: alone, and two that share one Redis."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis
from support.redis_servers import RedisServer, redis_server
from support.servers import RunningServer, running_server

SLOW = "[slow] tell me everything"
CHAT_PATH = "/v1/chat/completions"


def chat(prompt: str = "hello", max_tokens: int = 5, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, **more}


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def one_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    config = {
        "rate_limit": {"concurrent_requests": 1},
        "runtime": {"backend": "scripted", "max_model_len": 4096},
    }
    with running_server(tmp_path_factory.mktemp("one"), config) as running:
        yield running


def is_free(server: RunningServer) -> bool:
    with server.client() as client:
        status = client.post("/tokenize", json={"prompt": "a"}).status_code
    assert status in (200, 429)
    return status == 200


def leave_stream(server: RunningServer) -> None:
    """Go away in the middle of a stream."""
    body = chat(SLOW, 3000, stream=True)
    with server.client() as client, client.stream("POST", CHAT_PATH, json=body) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)
        assert not is_free(server)


def leave_whole(server: RunningServer) -> None:
    """Go away while the whole answer is awaited."""
    with server.client() as client, pytest.raises(httpx2.TimeoutException):
        client.post(CHAT_PATH, json=chat(SLOW, 3000), timeout=0.3)


def crash_engine(server: RunningServer) -> None:
    with server.client() as client:
        assert client.post(CHAT_PATH, json=chat("[crash]")).status_code == 500


def kill_engine_in_stream(server: RunningServer) -> None:
    body = chat(SLOW, 3000, stream=True)
    with server.client() as client, client.stream("POST", CHAT_PATH, json=body) as response:
        lines = response.iter_lines()
        next(lines)
        os.kill(server.engine_pid(), signal.SIGKILL)
        assert "engine_error" in "".join(lines)


def be_refused(server: RunningServer) -> None:
    with server.client() as client:
        assert client.post(CHAT_PATH, json=chat("a" * 5000)).status_code == 400
        assert client.post(CHAT_PATH, json=chat("[fail]")).status_code == 500


@pytest.mark.parametrize(
    "happening", [leave_stream, leave_whole, crash_engine, kill_engine_in_stream, be_refused]
)
def test_a_place_comes_free_whatever_happens(
    one_at_a_time: RunningServer, happening: Callable[[RunningServer], None]
) -> None:
    until(lambda: one_at_a_time.ready() and is_free(one_at_a_time))
    happening(one_at_a_time)
    until(lambda: one_at_a_time.ready() and is_free(one_at_a_time))


DIALECTS: dict[str, dict[str, Any]] = {
    CHAT_PATH: chat(),
    "/v1/messages": chat(model="stub"),
    "/api/chat": {**chat(), "model": "stub", "stream": False},
    "/v1/embeddings": {"input": "a"},
    "/tokenize": {"prompt": "a"},
}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A key for each path, and one request for each key."""
    keys = [{"key": path, "scopes": ["generate"], "name": path} for path in DIALECTS]
    config = {
        "auth": {"api_keys": keys},
        "rate_limit": {
            "per_key": {"requests_per_minute": 1, "tokens_per_minute": 100_000},
            "tenants": {"default": {"requests_per_minute": 50}},
        },
    }
    with running_server(tmp_path_factory.mktemp("once"), config) as running:
        yield running


@pytest.mark.parametrize("path", DIALECTS)
def test_every_dialect_says_when_to_come_back(once: RunningServer, path: str) -> None:
    model = httpx2.get(f"{once.url}/readyz").json()["models"][0]["id"]
    with once.client(path) as client:
        body = {**DIALECTS[path], "model": model}
        admitted, refused = client.post(path, json=body), client.post(path, json=body)
    assert admitted.status_code == 200, admitted.text
    assert admitted.headers["x-ratelimit-limit-requests"] == "1"
    assert admitted.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert f"1 requests per minute of key '{path}'" in refused.text
    if path == "/v1/messages":
        for response in (admitted, refused):
            assert response.headers["anthropic-ratelimit-requests-remaining"] == "0"
            assert response.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    if path == CHAT_PATH:
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"


def test_tokens_are_reserved_and_settled(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, {"rate_limit": {"tokens_per_minute": 400}}) as server,
        server.client() as client,
    ):
        first = client.post(CHAT_PATH, json=chat("[say]yes[/say]", 300))
        assert first.status_code == 200
        assert int(first.headers["x-ratelimit-remaining-tokens"]) < 100
        spent = first.json()["usage"]["total_tokens"]
        assert spent < 100
        # What was not used is back: otherwise 300 more would not fit.
        second = client.post(CHAT_PATH, json=chat("[say]yes[/say]", 300 - spent))
        assert second.status_code == 200, second.text

        never = client.post(CHAT_PATH, json=chat(max_tokens=401))
        assert never.status_code == 400
        assert "retry-after" not in never.headers
        assert "tokens per minute" in never.json()["error"]["message"]


@pytest.fixture(scope="module")
def running_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(running_redis: RedisServer) -> RedisServer:
    """Without anything in it."""
    with Redis.from_url(running_redis.url) as counters:
        counters.flushall()
    return running_redis


@pytest.fixture(scope="module")
def two(
    tmp_path_factory: pytest.TempPathFactory, running_redis: RedisServer
) -> Iterator[list[RunningServer]]:
    limits = {"requests_per_minute": 7, "concurrent_requests": 2, "storage": running_redis.url}
    folder = tmp_path_factory.mktemp("two")
    with ExitStack() as stack:
        config = {"rate_limit": limits}
        servers = [stack.enter_context(running_server(folder, config)) for _ in range(2)]
        yield servers
        for server in servers:
            assert server.stop() == 0, server.log.read_text()


def test_two_servers_share_their_limits(two: list[RunningServer], redis: RedisServer) -> None:
    statuses, remaining = [], []
    for number in range(10):
        with two[number % 2].client() as client:
            response = client.post(CHAT_PATH, json=chat())
        statuses.append(response.status_code)
        remaining.append(response.headers["x-ratelimit-remaining-requests"])
    assert statuses == [200] * 7 + [429] * 3
    assert remaining == [*"6543210", "0", "0", "0"]
    with two[0].client("generate-key") as client:
        assert client.post(CHAT_PATH, json=chat()).status_code == 200
    with Redis.from_url(redis.url) as counters:
        until(lambda: counters.keys("*concurrent*") == [])


def test_without_redis_nobody_is_served(two: list[RunningServer], redis: RedisServer) -> None:
    server = two[0]
    redis.freeze()
    begun = time.monotonic()
    with server.client() as client:
        response = client.post(CHAT_PATH, json=chat())
        assert time.monotonic() - begun < 3
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "limits_unavailable"
        assert response.headers["retry-after"] == "1"
        redis.thaw()
        until(lambda: client.post(CHAT_PATH, json=chat()).status_code == 200)


@pytest.mark.usefixtures("redis")
def test_streams_on_two_servers_take_places_of_both(two: list[RunningServer]) -> None:
    body = chat(SLOW, 400, stream=True)
    with ExitStack() as stack:
        for server in two:
            client = stack.enter_context(server.client())
            response = stack.enter_context(client.stream("POST", CHAT_PATH, json=body))
            assert response.status_code == 200
        with two[0].client() as other:
            refused = other.post(CHAT_PATH, json=chat())
        assert refused.status_code == 429
        assert "2 concurrent requests" in json.loads(refused.text)["error"]["message"]
    with two[0].client() as client:
        until(lambda: client.post(CHAT_PATH, json=chat()).status_code == 200)


def test_a_server_may_go_on_without_redis(tmp_path: Path, redis: RedisServer) -> None:
    redis.kill()
    limits = {"requests_per_minute": 2, "storage": redis.url, "on_storage_failure": "allow"}
    with running_server(tmp_path, {"rate_limit": limits}) as server, server.client() as client:
        statuses = [client.post(CHAT_PATH, json=chat()).status_code for _ in range(3)]
        redis.start()
        until(lambda: client.post(CHAT_PATH, json=chat()).status_code == 200)
    assert statuses == [200, 200, 429]
    assert "counting in memory" in server.log.read_text()
