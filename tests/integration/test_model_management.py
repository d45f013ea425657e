"""Models that come and go while the server runs, with real engine processes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.servers import RunningServer, running_server

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
LONG = {
    "messages": [{"role": "user", "content": "[slow]"}],
    "max_tokens": 60,
    "ignore_eos": True,
    "stream": True,
}


class Gate:
    """A chat template that is not there yet: the load waits for it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate.jinja"
        os.mkfifo(self.path)

    def open(self) -> None:
        self.path.write_text("{{ messages[0].content }}")


def config(folder: Path, *models: dict[str, Any], **runtime: Any) -> dict[str, Any]:
    """Models on demand, each with a file; the scripted backend does not care what is in it."""
    file = folder / "weights.gguf"
    file.write_bytes(b"GGUF")
    defaults = {"path": str(file), "load": "on_demand"}
    return {
        "models": [{**defaults, **model} for model in models],
        "runtime": {"backend": "scripted", **runtime},
    }


def chat(server: RunningServer, model: str) -> httpx2.Response:
    with server.client() as client:
        return client.post("/v1/chat/completions", json={**CHAT, "model": model})


def show(server: RunningServer, model: str, key: str = "all-key") -> dict[str, Any]:
    with server.client(key) as client:
        found: dict[str, Any] = client.get(f"/v1/models/{model}").json()
    return found


def act(server: RunningServer, action: str, model: str, **flags: bool) -> httpx2.Response:
    with server.client() as client:
        return client.post(f"/v1/models/{action}", json={"model": model, **flags})


def stream(
    server: RunningServer, model: str, begun: threading.Event | None = None
) -> list[dict[str, Any]]:
    """The events of a long answer; sets `begun` when the answer comes."""
    with (
        server.client() as client,
        client.stream("POST", "/v1/chat/completions", json={**LONG, "model": model}) as response,
    ):
        if begun is not None:
            begun.set()
        lines = [line for line in response.iter_lines() if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def children(server: RunningServer) -> int:
    pid = server.process.pid
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def wait_until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    brief = {"name": "brief", "idle_ttl": 0.2}
    tree = config(folder, {"name": "a"}, {"name": "b"}, brief, {"name": "for-another-cpu"})
    with running_server(folder, tree) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def test_a_server_is_ready_before_anything_is_loaded(tmp_path: Path) -> None:
    with running_server(tmp_path, config(tmp_path, {"name": "a"}, {"name": "b"})) as server:
        assert children(server) == 0
        assert show(server, "a")["state"] == "unloaded"
        assert chat(server, "a").status_code == 200
        found = show(server, "a")
        assert (found["state"], found["in_use"], found["load"]) == ("ready", 0, "on_demand")
        assert found["memory_bytes"] > 10 * 2**20
        assert found["last_used"] == pytest.approx(time.time(), abs=10)
        assert show(server, "b")["state"] == "unloaded"
        assert server.ready()


def test_a_model_leaves_memory_when_its_time_is_over_and_comes_back(server: RunningServer) -> None:
    before = children(server)
    for _ in range(2):
        assert chat(server, "brief").status_code == 200
        wait_until(lambda: show(server, "brief")["state"] == "unloaded")
        wait_until(lambda: children(server) == before)
    assert server.ready()


def test_a_model_that_cannot_be_loaded_harms_nobody(server: RunningServer) -> None:
    for _ in range(2):
        response = chat(server, "for-another-cpu")
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (503, "engine_unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert "'for-another-cpu' cannot be loaded; the server's log says why" in error["message"]
    assert server.log.read_text().count("was killed by SIGILL while it loaded the model") == 1
    found = show(server, "for-another-cpu")
    assert found["state"] == "failed"
    assert "SIGILL" in found["error"]
    assert "error" not in show(server, "for-another-cpu", "read-key")
    assert "SIGILL" in act(server, "load", "for-another-cpu").json()["error"]["message"]
    assert server.ready()
    assert chat(server, "a").status_code == 200


def test_load_and_unload(server: RunningServer) -> None:
    loaded = act(server, "load", "b")
    assert (loaded.status_code, loaded.json()["state"]) == (200, "ready")
    assert "generate" in loaded.json()["capabilities"]
    assert act(server, "load", "b").json()["memory_bytes"] > 0
    unloaded = act(server, "unload", "b").json()
    assert (unloaded["state"], unloaded["memory_bytes"]) == ("unloaded", None)
    assert act(server, "unload", "b").status_code == 200
    assert chat(server, "b").status_code == 200


def test_tuning_starts_another_process(server: RunningServer) -> None:
    act(server, "unload", "b")
    act(server, "load", "a")
    before = server.engine_pid()
    tuned = act(server, "tune", "a").json()
    assert tuned["state"] == "ready"
    assert server.engine_pid() != before


@pytest.mark.parametrize("action", ["load", "unload", "tune"])
def test_only_administrators_move_models(server: RunningServer, action: str) -> None:
    path = f"/v1/models/{action}"
    for key in ("generate-key", "read-key"):
        with server.client(key) as client:
            assert client.post(path, json={"model": "a"}).status_code == 403
    assert act(server, action, "nobody").json()["error"]["code"] == "model_not_found"
    with server.client() as client:
        assert client.post(path, json={"name": "a"}).status_code == 400


def test_a_model_that_answers_is_not_unloaded_by_mistake(server: RunningServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stream, server, "a")
        wait_until(lambda: show(server, "a")["in_use"] == 1)
        for action in ("unload", "tune"):
            refused = act(server, action, "a")
            assert refused.status_code == 409
            assert refused.json()["error"]["code"] == "model_in_use"
        drained = act(server, "unload", "a", drain=True)
        assert drained.json()["state"] == "unloaded"
        events = answer.result(timeout=20)
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    assert len(text) == 60


def test_force_ends_a_stream_with_an_error(server: RunningServer) -> None:
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stream, server, "a", begun)
        assert begun.wait(20)
        assert act(server, "unload", "a", force=True).json()["state"] == "unloaded"
        events = answer.result(timeout=20)
    assert "was unloaded" in events[-1]["error"]["message"]
    wait_until(lambda: show(server, "a")["in_use"] == 0)


def test_many_wait_for_one_load(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    tree = config(tmp_path, {"name": "a", "chat_template": str(gate.path)})
    with running_server(tmp_path, tree) as server, ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(chat, server, "a") for _ in range(4)]
        leaver = server.client()
        with pytest.raises(httpx2.TimeoutException):
            leaver.post("/v1/chat/completions", json={**CHAT, "model": "a"}, timeout=0.5)
        leaver.close()
        wait_until(lambda: show(server, "a")["waiting"] == 4)
        assert show(server, "a")["state"] == "loading"
        assert children(server) == 1
        gate.open()
        assert [answer.result(timeout=20).status_code for answer in answers] == [200] * 4
        assert children(server) == 1


def test_a_server_that_is_told_to_stop_while_it_loads_does(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    tree = config(tmp_path, {"name": "a", "chat_template": str(gate.path)})
    tree["server"] = {"drain_timeout": 0.5}
    with running_server(tmp_path, tree) as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(chat, server, "a")
        wait_until(lambda: show(server, "a")["state"] == "loading")
        pid = server.engine_pid()
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 15
        assert not Path(f"/proc/{pid}").exists()
        error = answer.exception(timeout=20)
        assert isinstance(error, httpx2.HTTPError) or answer.result().status_code >= 500


def test_the_longest_unused_model_makes_room(server: RunningServer, tmp_path: Path) -> None:
    one = act(server, "load", "a").json()["memory_bytes"]
    names = ({"name": name} for name in "abc")
    tree = config(tmp_path, *names, memory_budget_bytes=int(one * 2.5))
    with running_server(tmp_path, tree) as small:
        for name in "abc":
            # Loaded once, a model is known to be smaller than what its file might need.
            assert act(small, "load", name).status_code == 200
        for name in "abac":
            assert chat(small, name).status_code == 200
        states = {name: show(small, name)["state"] for name in "abc"}
        assert states == {"a": "ready", "b": "unloaded", "c": "ready"}
        assert children(small) == 2
