from __future__ import annotations

from typing import Any

import pytest
from inferctl_fakes import PATIENCE, sse

PATH = "/v1/responses"


def response(status: str = "completed", text: str = "Hi there", **fields: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    reasoning = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hmm"}]}
    message = {"type": "message", "role": "assistant", "content": [part]}
    output = [reasoning, message]
    return {"id": "resp_1", "object": "response", "status": status, "output": output, **fields}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\n".encode() + sse({"type": kind, **fields})


def events(*texts: str, last: bytes | None = None) -> list[bytes]:
    deltas = [event("response.output_text.delta", delta=text) for text in texts]
    started = event("response.created", response={**response("in_progress"), "output": []})
    ended = event("response.completed", response=response(text="".join(texts)))
    return [started, *deltas, last or ended]


def test_streamed(server, inferctl_child) -> None:
    server.stream(PATH, *events("Hi", " there"))

    done = inferctl_child("responses", "Hello")

    assert (done.code, done.out) == (0, "Hi there\n")
    assert done.err == "response id: resp_1\n"
    assert server.bodies(PATH) == [{"input": "Hello", "model": "m", "stream": True}]


def test_every_option(server, inferctl) -> None:
    server.json(PATH, response())

    done = inferctl(
        *("responses", "-", "--previous", "resp_0", "--instructions", "Be kind.", "--no-store"),
        *("--model", "x", "--max-tokens", "7", "--temperature", "0", "--no-stream"),
        stdin="Hello\n",
    )

    # What is not stored cannot be continued.
    assert (done.code, done.out, done.err) == (0, "Hi there\n", "")
    assert server.bodies(PATH) == [
        {
            "input": "Hello\n",
            "model": "x",
            "previous_response_id": "resp_0",
            "instructions": "Be kind.",
            "max_output_tokens": 7,
            "temperature": 0.0,
            "store": False,
        }
    ]


def test_json_is_every_event_or_the_response(server, inferctl) -> None:
    server.stream(PATH, *events("Hi"))
    server.json(PATH, response())

    streamed = inferctl("responses", "Hello", "--json")
    whole = inferctl("responses", "Hello", "--json", "--no-stream")

    kinds = [line["type"].removeprefix("response.") for line in streamed.lines]
    assert kinds == ["created", "output_text.delta", "completed"]
    assert (whole.lines, whole.err, streamed.err) == ([response()], "", "")


def test_what_was_cut_off_says_so(server, inferctl) -> None:
    details = {"incomplete_details": {"reason": "max_output_tokens"}}
    last = event("response.incomplete", response=response("incomplete", **details))
    server.stream(PATH, *events("Hi", last=last))

    done = inferctl("responses", "Hello")

    assert (done.code, done.out) == (0, "Hi\n")
    assert "raise --max-tokens" in done.err
    assert "response id: resp_1" in done.err


@pytest.mark.parametrize(
    "last",
    [
        event(
            "response.failed", response=response("failed", error={"code": "x", "message": "died"})
        ),
        event("error", code="x", message="died"),
    ],
)
def test_a_failure_in_the_middle(server, inferctl, last: bytes) -> None:
    server.stream(PATH, *events("Hi", last=last))

    done = inferctl("responses", "Hello")

    assert (done.code, done.out, done.err) == (1, "Hi\n", "error: died\n")
    assert inferctl("responses", "Hello", "--json").error["code"] == "x"


def test_a_stream_that_breaks_off(server, inferctl) -> None:
    server.stream(PATH, *events("Hi")[:-1])

    done = inferctl("responses", "Hello")

    assert (done.code, done.out) == (1, "Hi\n")
    assert "before the answer was complete" in done.err


def test_silence_ends_at_the_timeout_and_tells_the_server(server, inferctl) -> None:
    server.stream(PATH, *events("Hi")[:-1], None)

    assert inferctl("responses", "Hello", "--timeout", "0.2").code == 1
    assert server.disconnected.wait(PATIENCE)


def test_in_the_background_and_back(server, inferctl) -> None:
    server.json(PATH, {**response("queued"), "output": []})
    server.json(f"{PATH}/resp_1", response())
    server.json(f"{PATH}/resp_1/cancel", response("cancelled"))

    begun = inferctl("responses", "Hello", "--background")
    got = inferctl("responses", "--get", "resp_1")
    cancelled = inferctl("responses", "--cancel", "resp_1")

    assert (begun.out, begun.err) == ("", "status: queued\nresponse id: resp_1\n")
    assert server.bodies(PATH)[0]["background"] is True
    assert (got.out, got.err) == ("Hi there\n", "response id: resp_1\n")
    assert cancelled.out == "resp_1 cancelled\n"
    assert inferctl("responses", "--get", "resp_1", "--json").lines == [response()]


def test_delete(server, inferctl) -> None:
    gone = {"id": "a/b", "object": "response", "deleted": True}
    server.json(f"{PATH}/a%2Fb", gone)

    assert inferctl("responses", "--delete", "a/b").out == "a/b deleted\n"
    assert inferctl("responses", "--delete", "a/b", "--json").lines == [gone]
    assert server.bodies(f"{PATH}/a%2Fb", "DELETE") == [None, None]


def test_one_that_is_not_there(server, inferctl) -> None:
    server.error(f"{PATH}/resp_9", 404, "not_found", "there is no response 'resp_9'")

    done = inferctl("responses", "--get", "resp_9")

    assert (done.code, done.err) == (1, "error: there is no response 'resp_9'\n")


@pytest.mark.parametrize(
    "arguments",
    [(), ("Hi", "--get", "x"), ("--get", "x", "--delete", "x"), ("--get", "x", "--no-store")],
)
def test_wrong_usage(inferctl, arguments: tuple[str, ...]) -> None:
    assert inferctl("responses", *arguments).code == 2


@pytest.mark.parametrize("output", [None, 3, [3], [{"type": "message", "content": 3}]])
def test_an_odd_response_is_no_reason_to_die(server, inferctl, output: object) -> None:
    server.json(PATH, {**response(), "output": output})

    assert inferctl("responses", "Hello", "--no-stream").code == 0
