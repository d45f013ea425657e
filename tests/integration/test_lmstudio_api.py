"""LM Studio's dialects over HTTP and WebSocket, with answers that the prompt dictates."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from support.servers import RunningServer, running_server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

RUNTIME = {"backend": "scripted", "max_model_len": 4096}
MAX_BYTES = 100_000
HELLO = {"role": "user", "content": "Hello."}
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("lmstudio")
    (folder / "m-Q4_K_M.gguf").touch()
    names = ("scripted", "thinks", "other")
    config = {
        "models": [{"name": n, "path": "m-Q4_K_M.gguf"} for n in names],
        "runtime": RUNTIME,
        "server": {"max_body_bytes": MAX_BYTES},
    }
    with running_server(folder, config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()
        # Clients that leave, and requests that make no sense, are nothing to be surprised at.
        for surprise in ("Traceback", "never awaited"):
            assert surprise not in running.log.read_text(), running.log.read_text()


def post(server: RunningServer, path: str, key: str = "all-key", **body: Any) -> httpx2.Response:
    with server.client(key) as client:
        return client.post(path, json={"model": "scripted", **body})


def say(text: str) -> str:
    return f"[say]{text}[/say]"


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_v0_answers_are_openais_with_figures(server: RunningServer) -> None:
    messages = [{"role": "user", "content": say("Hi.")}]
    whole = post(server, "/api/v0/chat/completions", messages=messages, ttl=60).json()
    streamed = post(server, "/api/v0/chat/completions", messages=messages, stream=True).text
    completion = post(server, "/api/v0/completions", prompt=say("ab"), max_tokens=1).json()
    last = json.loads(streamed.split("\n\n")[-3].removeprefix("data: "))

    assert whole["choices"][0]["message"]["content"] == "Hi."
    assert whole["stats"]["stop_reason"] == last["stats"]["stop_reason"] == "eosFound"
    assert whole["stats"]["time_to_first_token"] > 0
    assert whole["model_info"]["quant"] == "Q4_K_M"
    assert whole["runtime"]["name"] == "inferflux"
    assert completion["choices"][0]["text"] == "a"
    assert completion["stats"]["stop_reason"] == "maxPredictedTokensReached"


def test_v0_models(server: RunningServer) -> None:
    with server.client() as client:
        listed = client.get("/api/v0/models").json()["data"]
        one = client.get("/api/v0/models/scripted").json()
        vector = client.post("/api/v0/embeddings", json={"model": "scripted", "input": "ab"}).json()

    assert one in listed
    assert (one["state"], one["type"], one["max_context_length"]) == ("loaded", "llm", 4096)
    assert vector["object"] == "list"


def test_v1_conversations_are_remembered(server: RunningServer) -> None:
    first = post(
        server, "/api/v1/chat", input="[say]one[/say]", system_prompt="Be brief.", temperature=0
    ).json()
    second = post(
        server,
        "/api/v1/chat",
        input=[{"type": "message", "content": say("two")}],
        previous_response_id=first["response_id"],
    ).json()

    assert first["output"] == [{"type": "message", "content": "one"}]
    assert second["output"] == [{"type": "message", "content": "two"}]
    assert second["stats"]["input_tokens"] > first["stats"]["input_tokens"] + 10
    assert second["response_id"] != first["response_id"]
    assert first["stats"]["total_output_tokens"] == 4


def test_v1_conversations_are_their_owners(server: RunningServer) -> None:
    kept = post(server, "/api/v1/chat", input=say("x")).json()["response_id"]
    stranger = post(
        server, "/api/v1/chat", key="generate-key", input="x", previous_response_id=kept
    )
    forgotten = post(server, "/api/v1/chat", input=say("x"), store=False).json()

    assert stranger.status_code == 404
    assert "response_id" not in forgotten


def test_v1_events(server: RunningServer) -> None:
    found = events(
        post(server, "/api/v1/chat", model="thinks", input=say("hm</think>Yes."), stream=True)
    )
    kinds = list(dict.fromkeys(event["type"] for event in found))

    assert kinds == [
        "chat.start",
        "prompt_processing.start",
        "prompt_processing.progress",
        "prompt_processing.end",
        "reasoning.start",
        "reasoning.delta",
        "reasoning.end",
        "message.start",
        "message.delta",
        "message.end",
        "chat.end",
    ]
    result = found[-1]["result"]
    assert result["output"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "message", "content": "Yes."},
    ]
    assert result["stats"]["reasoning_output_tokens"] > 0
    assert result["response_id"].startswith("resp_")


def test_v1_a_chat_that_loads_its_model_tells_of_it(server: RunningServer) -> None:
    post(server, "/api/v1/models/unload", instance_id="other")
    first, second = (
        events(post(server, "/api/v1/chat", model="other", input=say("Hi."), stream=True))
        for _ in range(2)
    )

    assert [event["type"] for event in first[1:4]] == [
        "model_load.start",
        "model_load.progress",
        "model_load.end",
    ]
    assert first[3]["load_time_seconds"] > 0
    assert first[-1]["result"]["stats"]["model_load_time_seconds"] > 0
    assert second[1]["type"] == "prompt_processing.start"
    assert "model_load_time_seconds" not in second[-1]["result"]["stats"]


def test_v1_models_go_and_come(server: RunningServer) -> None:
    gone = post(server, "/api/v1/models/unload", instance_id="other")
    with server.client() as client:
        listed = {m["key"]: m for m in client.get("/api/v1/models").json()["models"]}
    back = post(server, "/api/v1/models/load", model="other", echo_load_config=True).json()
    forbidden = post(server, "/api/v1/models/unload", key="generate-key", instance_id="other")

    assert gone.json() == {"instance_id": "other"}
    assert listed["other"]["loaded_instances"] == []
    assert listed["scripted"]["loaded_instances"][0]["id"] == "scripted"
    assert listed["scripted"]["quantization"] == {"name": "Q4_K_M", "bits_per_weight": 4}
    assert (back["status"], back["load_config"]["context_length"]) == ("loaded", 4096)
    assert forbidden.status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/v1/chat", {"input": [{"type": "image", "data_url": "x"}]}, 400),
        ("/api/v1/chat", {"input": "x", "integrations": ["mcp/x"]}, 400),
        ("/api/v1/chat", {"input": "x", "reasoning": "perhaps"}, 400),
        ("/api/v1/chat", {"input": "x", "previous_response_id": "resp_none"}, 404),
        ("/api/v1/chat", {"input": "x", "model": "none"}, 404),
        ("/api/v1/chat", {"input": 5}, 400),
        ("/api/v1/chat", {"input": "x", "max_output_tokens": 0}, 400),
        ("/api/v1/chat", {"input": "[fail]"}, 500),
        ("/api/v1/chat", {"input": "x", "context_length": 1_000_000}, 400),
        ("/api/v1/models/download", {"model": "some/model"}, 404),
        ("/api/v1/models/load", {"model": "none"}, 404),
        ("/api/v1/models/load", {"model": "other", "context_length": 1_000_000}, 400),
        ("/api/v0/chat/completions", {"messages": []}, 400),
        ("/api/v0/chat/completions", {"messages": [HELLO], "repeat_penalty": -1}, 400),
        ("/api/v0/completions", {"prompt": "x", "repeat_penalty": -1}, 400),
    ],
)
def test_errors_have_lm_studios_shape(
    server: RunningServer, path: str, body: dict[str, Any], status: int
) -> None:
    response = post(server, path, **body)

    assert response.status_code == status, response.text
    assert response.json()["error"].keys() == {"type", "message", "code", "param"}


def test_types_of_errors_are_lm_studios(server: RunningServer) -> None:
    with server.client() as client:
        job = client.get("/api/v1/models/download/status/job_1")
    unknown = post(server, "/api/v1/chat", model="none", input="x")
    types = [answer.json()["error"]["type"] for answer in (job, unknown)]

    assert job.status_code == 404
    assert types == ["job_not_found", "model_not_found"]


# ---------------------------------------------------------------------------- the SDKs' protocol


@contextmanager
def socket(
    server: RunningServer, namespace: str = "llm", key: str = "all-key"
) -> Iterator[ClientConnection]:
    url = server.url.replace("http", "ws", 1)
    with connect(f"{url}/{namespace}") as connection:
        login = {"authVersion": 1, "clientIdentifier": "me", "clientPasskey": key}
        connection.send(json.dumps(login))
        answer = json.loads(connection.recv(5))
        assert answer["success"] is (key != "wrong"), answer
        yield connection


def call(connection: ClientConnection, endpoint: str, parameter: Any = None) -> dict[str, Any]:
    frame = {"type": "rpcCall", "endpoint": endpoint, "callId": 7, "parameter": parameter}
    connection.send(json.dumps(frame))
    answer: dict[str, Any] = json.loads(connection.recv(10))
    assert answer["callId"] == 7
    return answer


def predict(connection: ClientConnection, text: str, *fields: dict[str, Any], **more: Any) -> None:
    parameter = {
        **more,
        "modelSpecifier": {"type": "query", "query": {"identifier": "scripted"}},
        "history": {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
        "predictionConfigStack": {
            "layers": [{"layerName": "apiOverride", "config": {"fields": list(fields)}}]
        },
    }
    frame = {"type": "channelCreate", "endpoint": "predict", "channelId": 1}
    connection.send(json.dumps(frame | {"creationParameter": parameter}))


def messages(connection: ClientConnection) -> list[dict[str, Any]]:
    found = []
    while (frame := json.loads(connection.recv(10)))["type"] == "channelSend":
        found.append(frame["message"])
    return [*found, frame]


def test_a_call_of_a_tool_over_a_channel(server: RunningServer) -> None:
    tools = {"key": "llm.prediction.tools", "value": {"type": "toolArray", "tools": TOOLS}}
    with socket(server) as connection:
        predict(connection, say(f"ok {CALL}"), tools)
        found = messages(connection)
    kinds = [message["type"] for message in found]
    (ended,) = [m for m in found if m["type"] == "toolCallGenerationEnd"]

    assert kinds[-2:] == ["success", "channelClose"]
    assert ended["toolCallRequest"]["arguments"] == {"a": 1}
    assert found[-2]["stats"]["stopReason"] == "toolCalls"


def test_a_cancelled_channel_ends_well_and_at_once(server: RunningServer) -> None:
    with socket(server) as connection:
        predict(connection, "[slow] go on")
        while json.loads(connection.recv(10))["message"]["type"] != "fragment":
            pass
        frame = {"type": "channelSend", "channelId": 1, "message": {"type": "cancel"}}
        connection.send(json.dumps(frame))
        found = messages(connection)

    assert found[-2]["stats"]["stopReason"] == "userStopped"
    assert found[-2]["stats"]["predictedTokensCount"] < 500


def test_a_channel_that_is_cancelled_before_it_began_ends_well_too(server: RunningServer) -> None:
    with socket(server) as connection:
        predict(connection, "[slow] go on")
        cancel = {"type": "channelSend", "channelId": 1, "message": {"type": "cancel"}}
        connection.send(json.dumps(cancel))
        found = messages(connection)

    assert [m["type"] for m in found[-2:]] == ["success", "channelClose"]
    assert found[-2]["stats"]["stopReason"] == "userStopped"
    assert not [m for m in found if m["type"] == "fragment"]


def test_models_are_loaded_with_the_context_they_are_served_with_or_not_at_all(
    server: RunningServer,
) -> None:
    def load(connection: ClientConnection, length: int) -> dict[str, Any]:
        field = {"key": "llm.load.contextLength", "value": length}
        stack = {"layers": [{"layerName": "apiOverride", "config": {"fields": [field]}}]}
        parameter = {"modelKey": "scripted", "loadConfigStack": stack}
        frame = {"type": "channelCreate", "endpoint": "loadModel", "channelId": 1}
        connection.send(json.dumps(frame | {"creationParameter": parameter}))
        return messages(connection)[-1]

    with socket(server) as connection:
        assert load(connection, 2048)["type"] == "channelClose"
        refused = load(connection, 1_000_000)

    assert refused["type"] == "channelError"
    assert "runtime.max_model_len" in refused["error"]["title"]


def test_there_are_no_presets(server: RunningServer) -> None:
    with socket(server) as connection:
        predict(connection, "x", fuzzyPresetIdentifier="mine")
        (refused,) = messages(connection)

    assert refused["error"]["displayData"]["code"] == "generic.presetNotFound"


@pytest.mark.parametrize("namespace", ["files", "repository"])
def test_namespaces_without_calls_refuse_politely(server: RunningServer, namespace: str) -> None:
    with socket(server, namespace) as connection:
        refused = call(connection, "searchModels", {"opts": {}})

    assert refused["type"] == "rpcError"


def test_who_has_no_key_stays_outside(server: RunningServer) -> None:
    with socket(server, key="wrong") as connection, pytest.raises(ConnectionClosed):
        connection.recv(5)


@pytest.mark.parametrize(
    ("key", "endpoint", "allowed"),
    [
        ("read-key", "listLoaded", True),
        ("read-key", "tokenize", False),
        ("generate-key", "listLoaded", False),
        ("generate-key", "unloadModel", False),
    ],
)
def test_every_call_asks_for_its_scope(
    server: RunningServer, key: str, endpoint: str, allowed: bool
) -> None:
    with socket(server, key=key) as connection:
        answer = call(connection, endpoint, {"identifier": "other"})

    assert (answer["type"] == "rpcResult") is allowed
    if not allowed:
        assert "lacks the scope" in answer["error"]["title"]


@pytest.mark.parametrize(
    ("endpoint", "parameter"),
    [
        ("noSuchCall", None),
        ("tokenize", None),
        ("tokenize", "text"),
        ("tokenize", {"specifier": {"query": {"identifier": 5}}, "inputString": "x"}),
        ("tokenize", {"specifier": {"query": {"identifier": "none"}}, "inputString": "x"}),
        ("tokenize", {"specifier": {"query": {}}, "inputString": 5}),
        ("unloadModel", {"identifier": "none"}),
        ("applyPromptTemplate", {"specifier": {"query": {}}, "history": {"messages": 5}}),
    ],
)
def test_wrong_calls_get_an_error_and_the_session_goes_on(
    server: RunningServer, endpoint: str, parameter: Any
) -> None:
    with socket(server) as connection:
        assert call(connection, endpoint, parameter)["type"] == "rpcError"
        assert call(connection, "listLoaded")["type"] == "rpcResult"


@pytest.mark.parametrize(
    "field",
    [
        {"key": "llm.prediction.temperature", "value": "hot"},
        {"key": "llm.prediction.stopStrings", "value": 5},
        {"key": "llm.prediction.maxPredictedTokens", "value": {"checked": True, "value": 1.5}},
        {"key": "llm.prediction.structured", "value": {"type": "xml"}},
        {"key": "llm.prediction.promptTemplate", "value": {}},
        {"key": "llm.prediction.tools", "value": {"type": "toolArray", "tools": [5]}},
        {"value": 5},
    ],
)
def test_wrong_predictions_get_an_error(server: RunningServer, field: dict[str, Any]) -> None:
    with socket(server) as connection:
        predict(connection, "x", field)
        found = messages(connection)

    assert found[-1]["type"] == "channelError"


@pytest.mark.parametrize("text", ["", "[]", "5", "{", '{"type": "what"}', "[" * 200])
def test_frames_that_make_no_sense_are_answered_with_a_warning(
    server: RunningServer, text: str
) -> None:
    with socket(server) as connection:
        connection.send(text)
        assert json.loads(connection.recv(5))["type"] == "communicationWarning"
        assert call(connection, "listLoaded")["type"] == "rpcResult"


@pytest.mark.parametrize(
    ("parameter", "problem"),
    [("[" * 300 + "]" * 300, "nested"), ('"' + "x" * 2 * MAX_BYTES + '"', "bytes")],
    ids=["deep", "long"],
)
def test_whoever_waits_for_an_answer_to_a_frame_that_cannot_be_taken_gets_one(
    server: RunningServer, parameter: str, problem: str
) -> None:
    with socket(server) as connection:
        connection.send(
            f'{{"type":"rpcCall","endpoint":"tokenize","callId":7,"parameter":{parameter}}}'
        )
        answer = json.loads(connection.recv(5))
        assert (answer["type"], answer["callId"]) == ("rpcError", 7)
        assert problem in answer["error"]["title"]
        assert call(connection, "listLoaded")["type"] == "rpcResult"


def test_too_many_calls_at_once_are_refused(server: RunningServer) -> None:
    with socket(server) as connection:
        for channel in range(70):
            parameter = {
                "modelSpecifier": {"query": {"identifier": "scripted"}},
                "history": {
                    "messages": [{"role": "user", "content": [{"type": "text", "text": "[slow]"}]}]
                },
            }
            frame = {"type": "channelCreate", "endpoint": "predict", "channelId": channel}
            connection.send(json.dumps(frame | {"creationParameter": parameter}))
        while (frame := json.loads(connection.recv(10)))["type"] != "channelError":
            pass

    assert "running already" in frame["error"]["title"]


def test_a_closed_socket_ends_what_runs_on_it(server: RunningServer) -> None:
    with socket(server) as connection:
        predict(connection, "[slow] go on for long")
        while json.loads(connection.recv(10))["message"]["type"] != "fragment":
            pass
        with server.client() as client:
            assert running(client) == 1
    deadline = time.monotonic() + 10
    with server.client() as client:
        while running(client):
            assert time.monotonic() < deadline, "it runs on"


def running(client: httpx2.Client) -> float:
    """Requests that are being computed."""
    lines = client.get("/metrics").text.splitlines()
    values = [line.split()[-1] for line in lines if line.startswith("inferflux_requests_running{")]
    assert values
    return sum(map(float, values))
