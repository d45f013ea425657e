"""Random frames over both WebSockets: what is wrong is told in the dialect's shape, and nothing breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.servers import RunningServer, running_server
from websockets.sync.client import ClientConnection, connect

SECONDS = 10
KEY = {"authorization": "Bearer all-key"}
LOGIN = json.dumps({"authVersion": 1, "clientIdentifier": "test"})
TERMINAL = ("response.completed", "response.incomplete", "response.failed", "error")
HEAVY = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
text = st.sampled_from(["hello", "", "\0", "[say]a[/say]"])
limit = st.sampled_from([1, 2, None, 0, -1, 2**70])


def some(good: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects whose fields are good ones, bad ones or missing."""
    return st.fixed_dictionaries({}, optional={n: s | s | values for n, s in good.items()})


message = some({"role": st.sampled_from(["user", "assistant"]), "content": text})
item = message | some(
    {
        "type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning"]),
        "id": text,
        "role": st.just("user"),
        "content": text,
        "call_id": text,
        "name": text,
        "arguments": text,
        "output": text,
        "summary": st.lists(values, max_size=2),
    }
)
response_frame = some(
    {
        "type": st.sampled_from(["response.create", "response.steer"]),
        "stream_id": st.sampled_from(["a", "b", "", "\n"]),
        "input": text | st.lists(item, max_size=3),
        "model": st.just("scripted"),
        "max_output_tokens": limit,
        "previous_response_id": st.none(),
        "generate": st.booleans(),
        "store": st.booleans(),
        "tools": st.lists(some({"type": st.just("function"), "name": text}), max_size=2),
        "tool_choice": st.sampled_from(["auto", "none", "required"]),
        "text": some({"format": values}),
        "truncation": st.sampled_from(["auto", "disabled"]),
    }
)
setting = some(
    {
        "key": st.sampled_from(
            [
                "llm.prediction.temperature",
                "llm.prediction.maxPredictedTokens",
                "llm.prediction.tools",
            ]
        ),
        "value": values | limit,
    }
)
part = some({"type": st.sampled_from(["text", "toolCallRequest", "toolCallResult"]), "text": text})
parameter = some(
    {
        "modelSpecifier": some({"type": st.just("query"), "query": some({"identifier": text})}),
        "specifier": some({"type": st.just("query"), "query": some({"identifier": text})}),
        "history": some(
            {
                "messages": st.lists(
                    some({"role": st.just("user"), "content": st.lists(part, max_size=2)}),
                    max_size=2,
                )
            }
        ),
        "predictionConfigStack": some(
            {
                "layers": st.lists(
                    some({"config": some({"fields": st.lists(setting, max_size=2)})}), max_size=2
                )
            }
        ),
        "inputString": text,
        "identifier": st.just("scripted"),
    }
)
sdk_frame = some(
    {
        "type": st.sampled_from(["rpcCall", "channelCreate", "channelSend"]),
        "endpoint": st.sampled_from(
            [
                *("listLoaded", "getModelInfo", "getLoadConfig", "tokenize", "countTokens"),
                *("applyPromptTemplate", "predict", "getOrLoad"),
            ]
        ),
        "callId": st.integers(0, 5),
        "channelId": st.integers(0, 5),
        "parameter": parameter,
        "creationParameter": parameter,
        "message": some({"type": st.just("cancel")}),
    }
)
raw = st.binary(max_size=20) | st.text(max_size=20) | values.map(json.dumps)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    runtime = {"backend": "scripted", "max_model_len": 160}
    with running_server(tmp_path_factory.mktemp("frames"), {"runtime": runtime}) as running:
        engine = running.engine_pid()
        yield running
        assert running.engine_pid() == engine, "the engine did not survive"
        assert running.stop() == 0, running.log.read_text()
        for surprise in ("Traceback", "never retrieved", "never awaited"):
            assert surprise not in running.log.read_text(), running.log.read_text()


def opened(server: RunningServer, path: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=KEY)


def receive(socket: ClientConnection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(socket.recv(timeout=SECONDS))
    return event


def encoded(frame: object) -> str | bytes:
    return json.dumps(frame) if isinstance(frame, dict) else frame  # type: ignore[return-value]


@HEAVY
@given(st.lists(response_frame | raw, min_size=1, max_size=4))
def test_frames_for_responses(server: RunningServer, frames: list[object]) -> None:
    with opened(server, "/v1/responses") as socket:
        for frame in frames:
            socket.send(encoded(frame))
        finale = {"type": "response.create", "input": "x", "max_output_tokens": 1, "stream_id": "z"}
        socket.send(json.dumps(finale))
        while (event := receive(socket)).get("stream_id") != "z" or event["type"] not in TERMINAL:
            if event["type"] == "error":
                assert 400 <= event["status"] < 500, (event, frames)
                assert event["error"].keys() == {"message", "type", "param", "code"}, event
                assert event["error"]["type"] != "server_error", (event, frames)
        assert event["type"] == "response.incomplete", (event, frames)


@HEAVY
@given(st.lists(sdk_frame | raw, min_size=1, max_size=4))
def test_frames_for_the_sdks(server: RunningServer, frames: list[object]) -> None:
    with opened(server, "/llm") as socket:
        socket.send(LOGIN)
        assert receive(socket) == {"success": True}
        for frame in frames:
            socket.send(encoded(frame))
        socket.send(json.dumps({"type": "rpcCall", "endpoint": "listLoaded", "callId": "last"}))
        while (event := receive(socket)).get("callId") != "last":
            if "error" in event:
                assert event["error"].keys() >= {"title", "rootTitle"}, event
                assert "logged" not in event["error"]["title"], (event, frames)
                assert "engine failed" not in event["error"]["title"], (event, frames)
        assert event["type"] == "rpcResult", (event, frames)


@HEAVY
@given(st.dictionaries(st.text(max_size=12), values, max_size=3) | values)
def test_logins_of_nobody(server: RunningServer, frame: object) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/llm") as socket:
        socket.send(json.dumps(frame))
        event = receive(socket)
        if isinstance(frame, dict):
            assert event["success"] is False
            assert event["error"]["title"]
        else:
            assert event["type"] == "communicationWarning"


def test_the_server_still_answers(server: RunningServer) -> None:
    with server.client() as client:
        assert client.post("/v1/responses", json={"input": "x"}).status_code == 200
