"""`/v1/responses` over HTTP, with answers that the prompt dictates."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.servers import KEYS, RunningServer, running_server

RUNTIME = {"backend": "scripted", "max_model_len": 2048}
OTHER_KEYS = [*KEYS, {"key": "rival-key", "name": "rival", "scopes": ["generate"], "tenant": "b"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CLOCK = {"type": "function", "name": "get_time"}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
PATH = "/v1/responses"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    config = {"runtime": RUNTIME, "auth": {"api_keys": OTHER_KEYS}}
    with running_server(tmp_path_factory.mktemp("responses"), config) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    config = {"model": {"name": "thinks"}, "runtime": RUNTIME}
    with running_server(tmp_path_factory.mktemp("thinks"), config) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx2.Client]:
    with server.client() as connection:
        yield connection


def create(client: httpx2.Client, given: Any, **fields: Any) -> dict[str, Any]:
    response = client.post(PATH, json={"input": given, "temperature": 0, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def text_of(response: dict[str, Any]) -> str:
    parts = [p for item in response["output"] for p in item.get("content", [])]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


def events_in(text: str) -> list[dict[str, Any]]:
    events = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def streamed(client: httpx2.Client, given: Any, **fields: Any) -> list[dict[str, Any]]:
    response = client.post(PATH, json={"input": given, "stream": True, "temperature": 0, **fields})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_in(response.text)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def running_requests(client: httpx2.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith(("inferflux_requests_running", "inferflux_requests_waiting"))
    )


def test_an_answer_has_all_that_clients_demand(client: httpx2.Client) -> None:
    body = create(
        client, "[say]Hello.[/say]", instructions="Be nice.", metadata={"k": "v"}, user="u"
    )

    assert body["id"].startswith("resp_")
    assert (body["object"], body["status"], body["error"]) == ("response", "completed", None)
    assert text_of(body) == "Hello."
    (item,) = body["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"][0]["annotations"] == []
    assert body["usage"]["output_tokens"] == 7
    assert body["usage"]["total_tokens"] == body["usage"]["input_tokens"] + 7
    assert (body["metadata"], body["user"], body["instructions"]) == ({"k": "v"}, "u", "Be nice.")
    assert (body["tools"], body["tool_choice"], body["parallel_tool_calls"]) == ([], "auto", True)
    assert (body["store"], body["truncation"]) == (True, "disabled")


def test_a_stream_says_the_same_as_the_whole(client: httpx2.Client) -> None:
    events = streamed(client, "[slow][say]Good day to you.[/say]")
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]

    assert len(deltas) > 5, "text comes as it is written"
    assert "".join(deltas) == "Good day to you."
    assert [e["type"] for e in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert [e["type"] for e in events[-4:]] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    kept = client.get(f"{PATH}/{events[0]['response']['id']}").json()
    assert kept == events[-1]["response"]


def test_a_conversation_goes_on_from_a_response(client: httpx2.Client) -> None:
    first = create(client, "[say]one[/say]", instructions="Count.")
    second = create(client, "[say]two[/say]", previous_response_id=first["id"])
    whole = create(
        client,
        [
            {"role": "user", "content": "[say]one[/say]"},
            *first["output"],
            {"role": "user", "content": "[say]two[/say]"},
        ],
    )

    assert text_of(second) == "two"
    assert second["previous_response_id"] == first["id"]
    # Instructions are not carried over, everything else is.
    assert second["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
    third = create(
        client, [{"type": "item_reference", "id": first["output"][0]["id"]}, *user("[say]3[/say]")]
    )
    assert text_of(third) == "3"


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_what_is_not_to_be_stored_is_not(client: httpx2.Client) -> None:
    body = create(client, "[say]x[/say]", store=False)

    assert body["store"] is False
    assert client.get(f"{PATH}/{body['id']}").status_code == 404
    again = client.post(PATH, json={"input": "x", "previous_response_id": body["id"]})
    assert again.status_code == 400
    assert again.json()["error"]["code"] == "previous_response_not_found"
    assert again.json()["error"]["param"] == "previous_response_id"


def test_nobody_reads_what_belongs_to_another_tenant(
    server: RunningServer, client: httpx2.Client
) -> None:
    mine = create(client, "[say]secret[/say]")
    name, item = mine["id"], mine["output"][0]["id"]
    with server.client("rival-key") as rival:
        for method, path in [
            ("GET", name),
            ("GET", f"{name}?stream=true"),
            ("GET", f"{name}/input_items"),
            ("POST", f"{name}/cancel"),
            ("DELETE", name),
        ]:
            refused = rival.request(method, f"{PATH}/{path}")
            assert refused.status_code == 404, path
            assert "secret" not in refused.text
        for fields in (
            {"input": "x", "previous_response_id": name},
            {"input": [{"type": "item_reference", "id": item}]},
        ):
            refused = rival.post(PATH, json=fields)
            assert refused.status_code == 400, refused.text

    assert client.get(f"{PATH}/{name}").json() == mine


def test_a_deleted_response_is_gone(client: httpx2.Client) -> None:
    name = create(client, "[say]x[/say]")["id"]

    assert client.delete(f"{PATH}/{name}").json() == {
        "id": name,
        "object": "response",
        "deleted": True,
    }
    assert client.get(f"{PATH}/{name}").status_code == 404
    assert client.delete(f"{PATH}/{name}").status_code == 404


def test_input_items_come_in_pages(client: httpx2.Client) -> None:
    given = [{"role": "user", "content": f"{number}"} for number in range(5)]
    name = create(client, [*given, *user("[say]x[/say]")])["id"]

    first = client.get(f"{PATH}/{name}/input_items", params={"limit": 2, "order": "asc"}).json()
    rest = client.get(
        f"{PATH}/{name}/input_items", params={"after": first["last_id"], "order": "asc"}
    ).json()

    texts = [item["content"][0]["text"] for page in (first, rest) for item in page["data"]]
    assert texts == ["0", "1", "2", "3", "4", "[say]x[/say]"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    wrong = client.get(f"{PATH}/{name}/input_items", params={"limit": "many"})
    assert wrong.status_code == 400


def test_input_tokens_are_counted_without_an_answer(client: httpx2.Client) -> None:
    fields = {"input": "hello", "instructions": "Be nice.", "tools": [WEATHER]}
    counted = client.post(f"{PATH}/input_tokens", json=fields).json()
    answered = client.post(PATH, json={**fields, "max_output_tokens": 1}).json()

    assert counted["object"] == "response.input_tokens"
    assert counted["input_tokens"] == answered["usage"]["input_tokens"]


def test_a_function_is_called_and_its_output_answered(client: httpx2.Client) -> None:
    first = create(client, f"[say]Let me see. {CALL}[/say]", tools=[WEATHER, CLOCK])
    message, call = first["output"]

    assert message["content"][0]["text"] == "Let me see. "
    assert (call["type"], call["name"], call["status"]) == (
        "function_call",
        "get_weather",
        "completed",
    )
    assert json.loads(call["arguments"]) == {"city": "Paris"}
    result = {
        "type": "function_call_output",
        "call_id": call["call_id"],
        "output": "[say]Rain.[/say]",
    }
    second = create(client, [result], previous_response_id=first["id"], tools=[WEATHER, CLOCK])
    assert text_of(second) == "Rain."
    alone = client.post(PATH, json={"input": [result]})
    assert alone.status_code == 400
    assert call["call_id"] in alone.json()["error"]["message"]


def test_a_streamed_call_comes_in_pieces(client: httpx2.Client) -> None:
    events = streamed(client, f"[slow][say]{CALL}[/say]", tools=[WEATHER])
    pieces = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]

    assert len(pieces) > 3
    assert json.loads("".join(pieces)) == {"city": "Paris"}
    (done,) = [e for e in events if e["type"] == "response.function_call_arguments.done"]
    assert (done["name"], json.loads(done["arguments"])) == ("get_weather", {"city": "Paris"})
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["function_call"]


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "get_weather"},
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "get_weather"}],
        },
    ],
)
def test_a_call_can_be_demanded(client: httpx2.Client, choice: object) -> None:
    tools = [WEATHER] if choice == "required" else [WEATHER, CLOCK]
    body = create(client, "[say]no[/say]", tools=tools, tool_choice=choice, max_output_tokens=400)

    assert {item["name"] for item in body["output"]} == {"get_weather"}
    assert body["tool_choice"] == choice
    assert [tool["name"] for tool in body["tools"]] == [tool["name"] for tool in tools]


def test_text_can_be_made_to_follow_a_schema(client: httpx2.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"const": True}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    body = create(client, "[say]no[/say]", text={"format": wanted})

    assert json.loads(text_of(body)) == {"ok": True}
    assert body["text"]["format"]["name"] == "n"


def test_an_answer_that_gets_too_long_is_incomplete(client: httpx2.Client) -> None:
    body = create(client, "[say]too long[/say]", max_output_tokens=3)

    assert (body["status"], text_of(body)) == ("incomplete", "too")
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}


def test_log_probabilities_are_shown_on_demand(client: httpx2.Client) -> None:
    include = ["message.output_text.logprobs"]
    body = create(client, "[say]ab[/say]", include=include, top_logprobs=2)
    entries = body["output"][0]["content"][0]["logprobs"]

    assert "".join(entry["token"] for entry in entries) == "ab"
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)
    assert create(client, "[say]ab[/say]")["output"][0]["content"][0]["logprobs"] == []


def test_what_does_not_fit_is_refused_or_shortened(client: httpx2.Client) -> None:
    long = [*user("w" * 900), {"role": "assistant", "content": "no"}]
    long += [*user("x" * 900), *user("y" * 900), *user("z" * 900)]
    given = [{"role": "system", "content": "Be nice."}, *long, *user("[say]still here[/say]")]
    kept = [given[0], *given[-2:]]

    refused = client.post(PATH, json={"input": given})
    shortened = create(client, given, truncation="auto")

    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert text_of(shortened) == "still here"
    counted = client.post(f"{PATH}/input_tokens", json={"input": kept}).json()
    assert shortened["usage"]["input_tokens"] == counted["input_tokens"]
    hopeless = client.post(PATH, json={"input": "x" * 4000, "truncation": "auto"})
    assert hopeless.status_code == 400


def test_reasoning_is_an_item_of_its_own(thinker: RunningServer) -> None:
    says = "[say]hm, well\n</think>\n\nYes.[/say]"
    with thinker.client() as client:
        thought, message = create(client, says)["output"]
        told = create(client, says, reasoning={"summary": "auto"})["output"][0]
        silent = create(client, "[say]Yes.[/say]", reasoning={"effort": "none"})
        kinds = [e["type"] for e in streamed(client, says)]
        first = create(client, says)
        second = create(client, "[say]a</think>b[/say]", previous_response_id=first["id"])

    assert thought["content"] == [{"type": "reasoning_text", "text": "hm, well"}]
    assert message["content"][0]["text"] == "Yes."
    assert told["summary"] == [{"type": "summary_text", "text": "hm, well"}]
    assert [item["type"] for item in silent["output"]] == ["message"]
    assert kinds.index("response.reasoning_text.done") < kinds.index("response.output_text.delta")
    assert first["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert text_of(second) == "b"


def test_the_background_goes_on_without_its_client(client: httpx2.Client) -> None:
    queued = create(client, "[slow][say]done[/say]", background=True)
    path = f"{PATH}/{queued['id']}"

    assert (queued["status"], queued["output"], queued["usage"]) == ("queued", [], None)
    assert client.get(f"{path}/input_items").json()["data"][0]["role"] == "user"
    early = client.post(PATH, json={"input": "x", "previous_response_id": queued["id"]})
    assert early.status_code == 400
    wait_until(lambda: client.get(path).json()["status"] not in ("queued", "in_progress"))
    done = client.get(path).json()
    assert (done["status"], text_of(done)) == ("completed", "done")
    assert done["usage"]["output_tokens"] == 5
    assert client.post(f"{path}/cancel").json() == done
    assert client.get(path, params={"stream": "true"}).status_code == 400


def test_the_background_can_be_cancelled(client: httpx2.Client) -> None:
    endless = {"max_output_tokens": 1500, "background": True}
    at_once = create(client, "[slow]", **endless)["id"]
    assert client.post(f"{PATH}/{at_once}/cancel").json()["status"] == "cancelled"

    name = create(client, "[slow]", **endless)["id"]
    wait_until(lambda: client.get(f"{PATH}/{name}").json()["status"] == "in_progress")
    assert client.post(f"{PATH}/{name}/cancel").json()["status"] == "cancelled"
    assert client.get(f"{PATH}/{name}").json()["status"] == "cancelled"

    deleted = create(client, "[slow]", **endless)["id"]
    assert client.delete(f"{PATH}/{deleted}").json()["deleted"] is True
    assert client.get(f"{PATH}/{deleted}").status_code == 404
    wait_until(lambda: running_requests(client) == 0)


def test_a_stream_from_the_background_is_taken_up_again(client: httpx2.Client) -> None:
    body = {"input": "[slow][say]all of it[/say]", "background": True, "stream": True}
    with client.stream("POST", PATH, json=body) as response:
        lines = response.iter_lines()
        _, created = next(lines), next(lines)
    name = json.loads(created.removeprefix("data: "))["response"]["id"]
    path = f"{PATH}/{name}"

    live = events_in(client.get(path, params={"stream": "true"}).text)
    stored = events_in(client.get(path, params={"stream": "true"}).text)
    rest = events_in(client.get(path, params={"stream": "true", "starting_after": 3}).text)

    assert live == stored
    assert [event["sequence_number"] for event in live] == list(range(len(live)))
    assert rest == stored[4:]
    assert stored[-1]["response"] == client.get(path).json()
    wrong = client.get(path, params={"stream": "true", "starting_after": "x"})
    assert wrong.status_code == 400


def test_what_fails_in_the_background_says_so(client: httpx2.Client) -> None:
    name = create(client, "[fail]", background=True)["id"]
    wait_until(lambda: client.get(f"{PATH}/{name}").json()["status"] == "failed")
    error = client.get(f"{PATH}/{name}").json()["error"]
    assert error["code"] == "server_error"
    assert "out of memory" in error["message"]


def test_errors_before_the_first_token_have_a_status(client: httpx2.Client) -> None:
    response = client.post(PATH, json={"input": "[fail]", "stream": True})
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"


def test_an_engine_that_dies_fails_the_stream(tmp_path: Path) -> None:
    with running_server(tmp_path, {"runtime": RUNTIME}) as own, own.client() as client:
        body = {"input": "[slow]", "stream": True, "max_output_tokens": 1500}
        with client.stream("POST", PATH, json=body) as response:
            lines = response.iter_lines()
            before = [next(lines) for _ in range(20)]
            os.kill(own.engine_pid(), signal.SIGKILL)
            events = events_in("\n".join([*before, *lines, ""]))
        name = events[0]["response"]["id"]
        kept = client.get(f"{PATH}/{name}").json()

    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["code"] == "server_error"
    assert kept["status"] == "failed"


def test_a_client_that_leaves_ends_its_stream(client: httpx2.Client) -> None:
    body = {"input": "[slow]", "stream": True, "max_output_tokens": 1500}
    with client.stream("POST", PATH, json=body) as response:
        lines = response.iter_lines()  # dropping it would close the connection
        name = json.loads([next(lines), next(lines)][1].removeprefix("data: "))["response"]["id"]
        assert running_requests(client) == 1
    wait_until(lambda: running_requests(client) == 0, 3)
    assert client.get(f"{PATH}/{name}").status_code == 404


def test_a_client_that_does_not_wait_ends_its_answer(client: httpx2.Client) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        client.post(PATH, json={"input": "[slow]", "max_output_tokens": 1500}, timeout=0.5)
    wait_until(lambda: running_requests(client) == 0, 3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": {}}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tools": "all"}, "tools"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "tools": 5}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "mode": 5}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": 5}}, "tool_choice"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": []}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": "no"}}}}, "text.format"),
        ({"text": {"verbosity": "shouting"}}, "text.verbosity"),
        ({"truncation": "some"}, "truncation"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": 5}}, "metadata[...]"),
        ({"background": True, "store": False}, "store"),
        ({"background": True, "model": "no-such"}, "model"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"previous_response_id": ""}, "previous_response_id"),
        ({"model": "no-such"}, "model"),
    ],
)
def test_wrong_requests_are_refused_by_name(
    client: httpx2.Client, fields: dict[str, Any], param: str
) -> None:
    response = client.post(PATH, json={"input": "hi", **fields})

    assert response.status_code == (404 if "model" in fields else 400), response.text
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"input": "\\ud800"}', b'{"a":' * 1000]
)
def test_malformed_bodies_are_refused(client: httpx2.Client, content: bytes) -> None:
    for path in (PATH, f"{PATH}/input_tokens"):
        response = client.post(path, content=content)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_unknown_fields_and_nulls_are_ignored(client: httpx2.Client) -> None:
    nothing = dict.fromkeys(("tools", "tool_choice", "text", "reasoning", "include", "stream"))
    body = create(client, "[say]ok[/say]", **nothing, service_tier="flex", something={"new": 1})
    assert text_of(body) == "ok"


def test_the_scope_is_needed(server: RunningServer) -> None:
    with server.client("read-key") as reader, server.client(None) as nobody:
        assert reader.post(PATH, json={"input": "x"}).status_code == 403
        assert reader.get(f"{PATH}/resp_1").status_code == 403
        assert nobody.post(PATH, json={"input": "x"}).status_code == 401


def test_guardrails_hold_back_what_may_not_be_said(tmp_path: Path) -> None:
    config = {"runtime": RUNTIME, "guardrails": {"blocklist": ["forbidden"]}}
    with running_server(tmp_path, config) as guarded, guarded.client() as client:
        refused = client.post(PATH, json={"input": "forbidden"})
        counted = client.post(f"{PATH}/input_tokens", json={"input": "forbidden"})
        cleared = create(client, "[say]fine[/say]")

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    assert counted.status_code == 400
    assert text_of(cleared) == "fine"
