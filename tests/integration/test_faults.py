from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.servers import RunningServer, running_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of the test's own, for tests that leave marks."""
    config = {"runtime": {"backend": "scripted", "max_num_seqs": 32, "max_model_len": 4096}}
    with running_server(tmp_path, config) as running:
        yield running


def chat(prompt: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": 5, **options}


def stream(server: RunningServer, body: dict[str, Any]) -> list[str]:
    with (
        server.client() as client,
        client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response,
    ):
        assert response.status_code == 200, response.read()
        return [line for line in response.iter_lines() if line]


def wait_until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def metric(server: RunningServer, name: str) -> float:
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_a_failed_pass_fails_its_request_alone(server: RunningServer) -> None:
    with server.client() as client:
        response = client.post("/v1/chat/completions", json=chat("[fail]"))
        assert response.status_code == 500
        assert "out of memory" in response.json()["error"]["message"]
        assert client.post("/v1/chat/completions", json=chat("fine")).status_code == 200


def test_logits_that_are_not_numbers_are_an_error(server: RunningServer) -> None:
    with server.client() as client:
        response = client.post("/v1/chat/completions", json=chat("[nan]"))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_error"


@pytest.mark.parametrize("script", ["[crash]", "[lost]"])
def test_a_dead_engine_is_replaced(own_server: RunningServer, script: str) -> None:
    before = own_server.engine_pid()
    with own_server.client() as client:
        response = client.post("/v1/chat/completions", json=chat(script))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_error"

    own_server.wait_ready(10)
    assert own_server.engine_pid() != before
    with own_server.client() as client:
        assert client.post("/v1/chat/completions", json=chat("fine")).status_code == 200
    assert metric(own_server, "inferflux_engine_restarts_total") == 1


def test_a_request_that_kills_its_engine_twice_leaks_nothing_and_the_engine_dies_with_its_server(
    own_server: RunningServer,
) -> None:
    def open_files() -> int:
        return len(list(Path(f"/proc/{own_server.process.pid}/fd").iterdir()))

    before = open_files()
    for _ in range(2):
        with own_server.client() as client:
            assert client.post("/v1/chat/completions", json=chat("[crash]")).status_code == 500
        own_server.wait_ready(20)
    wait_until(lambda: open_files() <= before)
    engine = own_server.engine_pid()
    opened = [str(each.readlink()) for each in Path(f"/proc/{engine}/fd").iterdir()]
    listening = {
        f"socket:[{line.split()[9]}]"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{own_server.port:04X}")
    }
    assert listening
    assert listening.isdisjoint(opened)
    os.kill(own_server.process.pid, signal.SIGKILL)
    own_server.process.wait()
    wait_until(lambda: not Path(f"/proc/{engine}").exists(), seconds=5)


def test_twenty_streams_learn_within_a_second_that_the_engine_was_killed(
    own_server: RunningServer,
) -> None:
    body = chat("[slow]", max_tokens=3000, ignore_eos=True)
    with ThreadPoolExecutor(20) as pool:
        streams = [pool.submit(stream, own_server, body) for _ in range(20)]
        wait_until(lambda: metric(own_server, "inferflux_requests_running") == 20)
        killed = time.monotonic()
        os.kill(own_server.engine_pid(), signal.SIGKILL)
        ends = [future.result(timeout=10) for future in streams]
        told = time.monotonic() - killed

    assert told < 1.0
    for lines in ends:
        assert lines[-1] == "data: [DONE]"
        error = json.loads(lines[-2].removeprefix("data: "))["error"]
        assert error["code"] == "engine_error"
        assert "SIGKILL" in error["message"]
    own_server.wait_ready(5)


def test_a_stopped_engine_is_noticed_by_its_silence(tmp_path: Path) -> None:
    """What cannot answer cannot say so: readiness comes back with a new process."""
    config = {"runtime": {"backend": "scripted", "hang_timeout": 1.0}}
    with running_server(tmp_path, config) as server:
        pid = server.engine_pid()
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), seconds=60)
        server.wait_ready(20)


def test_sigterm_lets_streams_finish(own_server: RunningServer) -> None:
    body = chat("[slow]", max_tokens=60, ignore_eos=True)
    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(stream, own_server, body) for _ in range(8)]
        wait_until(lambda: metric(own_server, "inferflux_requests_running") == 8)
        status = own_server.stop()
        ends = [future.result(timeout=30) for future in streams]

    assert status == 0
    for lines in ends:
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
        assert len(text) == 60
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_a_client_that_leaves_mid_stream_frees_its_slot(server: RunningServer) -> None:
    body = chat("[slow]", max_tokens=400, ignore_eos=True, stream=True)
    with (
        server.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        lines = response.iter_lines()  # dropping it would close the connection
        next(lines)
        assert metric(server, "inferflux_requests_running") == 1
    wait_until(lambda: metric(server, "inferflux_requests_running") == 0, seconds=2)


def test_a_client_that_leaves_before_the_first_token_frees_its_place(
    server: RunningServer,
) -> None:
    long = chat("[slow]", max_tokens=400, ignore_eos=True, stream=True)
    leave = threading.Event()

    def occupy() -> None:
        with (
            server.client() as client,
            client.stream("POST", "/v1/chat/completions", json=long) as response,
        ):
            lines = response.iter_lines()  # dropping it would close the connection
            next(lines)
            leave.wait(20)

    with ThreadPoolExecutor(4) as pool:
        occupants = [pool.submit(occupy) for _ in range(4)]
        wait_until(lambda: metric(server, "inferflux_requests_running") == 4)
        with server.client() as client, pytest.raises(Exception, match="timed out"):
            client.post("/v1/chat/completions", json=chat("waits"), timeout=0.3)
        wait_until(lambda: metric(server, "inferflux_requests_waiting") == 0, seconds=2)
        leave.set()
        for occupant in occupants:
            occupant.result(timeout=10)
    wait_until(lambda: metric(server, "inferflux_requests_running") == 0, seconds=2)


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    config = {"runtime": {"backend": "scripted", "max_num_seqs": 2, "max_queue": 1}}
    with running_server(tmp_path, config) as server, ThreadPoolExecutor(12) as pool:
        body = chat("[slow]", max_tokens=30, ignore_eos=True)

        def send(_: int) -> tuple[int, str | None]:
            with server.client() as client:
                response = client.post("/v1/chat/completions", json=body)
                return response.status_code, response.headers.get("retry-after")

        results = list(pool.map(send, range(12)))

    refused = [retry for status, retry in results if status == 503]
    assert len(refused) >= 12 - 3 - 3
    assert sum(status == 200 for status, _ in results) + len(refused) == 12
    assert all(retry is not None and int(retry) >= 1 for retry in refused)


def test_thirty_two_streams_equal_one_at_a_time(own_server: RunningServer) -> None:
    def ask(i: int) -> str:
        with own_server.client() as client:
            body = chat(f"question {i} " * (i % 7 + 1), max_tokens=24, temperature=0)
            answer = client.post("/v1/chat/completions", json=body).json()
        content: str = answer["choices"][0]["message"]["content"]
        return content

    alone = [ask(i) for i in range(32)]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, range(32)))
    assert together == alone
