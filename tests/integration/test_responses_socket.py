"""`/v1/responses` over a WebSocket, with answers that the prompt dictates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.servers import RunningServer, running_server
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

TERMINAL = ("response.completed", "response.incomplete", "response.failed", "error")
SECONDS = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With a short time to send requests, which must not end a connection that is open."""
    config = {
        "runtime": {"backend": "scripted", "max_model_len": 2048},
        "server": {"receive_timeout": 0.5, "max_body_bytes": 4096},
    }
    with running_server(tmp_path_factory.mktemp("socket"), config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def opened(server: RunningServer, key: str | None = "all-key") -> ClientConnection:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"ws://127.0.0.1:{server.port}/v1/responses"
    return connect(url, additional_headers=headers)


@pytest.fixture
def socket(server: RunningServer) -> Iterator[ClientConnection]:
    with opened(server) as connection:
        yield connection


def send(socket: ClientConnection, given: Any, **fields: Any) -> None:
    socket.send(json.dumps({"type": "response.create", "input": given, "temperature": 0, **fields}))


def receive(socket: ClientConnection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(socket.recv(timeout=SECONDS))
    return event


def until_the_end(socket: ClientConnection) -> list[dict[str, Any]]:
    events = [receive(socket)]
    while events[-1]["type"] not in TERMINAL:
        events.append(receive(socket))
    return events


def text_of(event: dict[str, Any]) -> str:
    text: str = event["response"]["output"][0]["content"][0]["text"]
    return text


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def running_requests(server: RunningServer) -> float:
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    names = ("inferflux_requests_running", "inferflux_requests_waiting")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(names))


def test_events_are_those_of_the_stream(server: RunningServer, socket: ClientConnection) -> None:
    send(socket, "[slow][say]Good day.[/say]")
    events = until_the_end(socket)

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == text_of(events[-1]) == "Good day."
    assert not any("stream_id" in event for event in events)
    with server.client() as client:
        kept = client.get(f"/v1/responses/{events[-1]['response']['id']}").json()
    assert kept == events[-1]["response"]


def test_requests_of_a_lane_wait_for_each_other(socket: ClientConnection) -> None:
    for word in ("one", "two"):
        send(socket, f"[say]{word}[/say]", stream_id="a")
    both = [until_the_end(socket)[-1] for _ in range(2)]

    assert [text_of(event) for event in both] == ["one", "two"]
    assert {event["stream_id"] for event in both} == {"a"}


def test_lanes_do_not_wait_for_each_other(socket: ClientConnection) -> None:
    send(socket, "[slow]", stream_id="slow", max_output_tokens=100)
    while receive(socket)["type"] != "response.output_text.delta":
        pass
    send(socket, "[say]quick[/say]", stream_id="quick")
    ends: list[str] = []
    while len(ends) < 2:
        event = receive(socket)
        ends += [event["stream_id"]] if event["type"] in TERMINAL else []

    assert ends == ["quick", "slow"]


def test_what_is_not_stored_is_remembered_by_the_connection_alone(
    server: RunningServer, socket: ClientConnection
) -> None:
    send(socket, "[say]one[/say]", store=False)
    first = until_the_end(socket)[-1]["response"]
    follow = {"previous_response_id": first["id"], "store": False}
    send(socket, "[say]two[/say]", **follow)
    second = until_the_end(socket)[-1]

    assert text_of(second) == "two"
    assert second["response"]["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    with opened(server) as other:
        send(other, "[say]two[/say]", **follow)
        (refused,) = until_the_end(other)
    assert refused["error"]["code"] == "previous_response_not_found"


def test_a_prompt_can_be_prepared(socket: ClientConnection) -> None:
    send(socket, "hello", generate=False, tools=[])
    prepared = until_the_end(socket)
    send(socket, "[say]hi[/say]", previous_response_id=prepared[-1]["response"]["id"])

    assert [event["type"] for event in prepared] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert prepared[-1]["response"]["output"] == []
    assert text_of(until_the_end(socket)[-1]) == "hi"


def test_a_closed_socket_ends_what_runs(server: RunningServer) -> None:
    with opened(server) as leaving:
        for lane in "abc":
            send(leaving, "[slow]", max_output_tokens=1500, stream_id=lane)
        wait_until(lambda: running_requests(server) == 3)
    wait_until(lambda: running_requests(server) == 0)


def test_an_idle_connection_stays_open(socket: ClientConnection) -> None:
    time.sleep(0.8)  # longer than an HTTP request may take to arrive
    send(socket, "[say]still here[/say]")
    assert text_of(until_the_end(socket)[-1]) == "still here"


@pytest.mark.parametrize(
    ("frame", "status", "code"),
    [
        ("", 400, "invalid_request"),
        ("{", 400, "invalid_request"),
        ("[]", 400, "invalid_request"),
        ('{"input": "x"}', 400, "invalid_request"),
        ('{"type": 5}', 400, "invalid_request"),
        ('{"type": "response.dance"}', 400, "invalid_request"),
        ('{"type": "response.create"}', 400, "invalid_request"),
        ('{"type": "response.create", "input": [{}]}', 400, "invalid_request"),
        ('{"type": "response.create", "input": "x", "background": true}', 400, "invalid_request"),
        ('{"type": "response.create", "input": "x", "model": "no"}', 404, "model_not_found"),
        ('{"type": "response.create", "input": "x", "stream_id": ""}', 400, "invalid_stream_id"),
        ('{"type": "response.create", "input": "x", "stream_id": "a b"}', 400, "invalid_stream_id"),
        ('{"type": "response.create", "input": "[fail]"}', 500, "engine_error"),
        (b"\xff\x00", 400, "invalid_request"),
        ('{"type": "response.create", "input": "' + "x" * 5000 + '"}', 413, "payload_too_large"),
        ('{"a":' * 500, 400, "invalid_request"),
    ],
)
def test_errors_are_events_and_the_connection_goes_on(
    socket: ClientConnection, frame: str | bytes, status: int, code: str
) -> None:
    socket.send(frame)
    event = receive(socket)

    assert (event["type"], event["status"], event["error"]["code"]) == ("error", status, code)
    assert event["error"]["message"]
    send(socket, "[say]fine[/say]")
    assert text_of(until_the_end(socket)[-1]) == "fine"


def test_errors_of_a_lane_tell_its_name(socket: ClientConnection) -> None:
    send(socket, None, stream_id="a")
    assert receive(socket)["stream_id"] == "a"


def test_lanes_are_bounded(socket: ClientConnection) -> None:
    for number in range(32):
        send(socket, "[say]x[/say]", stream_id=f"lane-{number}")
    ends = [until_the_end(socket)[-1]["type"] for _ in range(32)]
    send(socket, "x", stream_id="one-more")
    refused = receive(socket)
    send(socket, "[say]x[/say]")

    assert set(ends) == {"response.completed"}
    assert refused["error"]["code"] == "websocket_stream_limit_reached"
    assert until_the_end(socket)[-1]["type"] == "response.completed"


def test_what_waits_in_a_lane_is_bounded(socket: ClientConnection) -> None:
    send(socket, "[slow]", max_output_tokens=1500)
    while receive(socket)["type"] != "response.output_text.delta":
        pass
    for _ in range(33):
        send(socket, "x")
    while (event := receive(socket))["type"] != "error":
        pass
    assert (event["status"], event["error"]["code"]) == (503, "overloaded")


def test_steering_is_refused_as_clients_expect(socket: ClientConnection) -> None:
    socket.send(
        json.dumps({"type": "response.steer", "input": "Stop.", "previous_response_id": "resp_1"})
    )
    event = receive(socket)
    assert (event["type"], event["error"]["code"]) == (
        "response.steer.failed",
        "steering_not_supported",
    )
    assert event["steer"] == {"input": "Stop.", "previous_response_id": "resp_1"}


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("wrong", 401), ("read-key", 403)])
def test_the_handshake_is_refused_as_a_request_is(
    server: RunningServer, key: str | None, status: int
) -> None:
    with pytest.raises(InvalidStatus) as caught, opened(server, key):
        pass
    assert caught.value.response.status_code == status
    assert json.loads(caught.value.response.body or b"")["error"]["message"]
