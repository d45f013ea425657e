from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from support.servers import RunningServer, running_server

MESSAGES = [{"role": "user", "content": "who are you?"}]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "married": {"type": "boolean"},
    },
    "required": ["name", "age", "married"],
    "additionalProperties": False,
}
PERSON_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "person", "strict": True, "schema": PERSON},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("structured")
    with running_server(folder, {}) as running:
        yield running
        assert running.stop() == 0, running.log.read_text()


def chat(server: RunningServer, **fields: Any) -> httpx2.Response:
    body = {"messages": MESSAGES, "max_tokens": 200, "temperature": 0, **fields}
    with server.client() as client:
        return client.post("/v1/chat/completions", json=body)


def only_choice(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    return dict(choice)


def person(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(text)
    jsonschema.validate(value, PERSON)
    return value


def test_a_schema_is_kept_to(server: RunningServer) -> None:
    choice = only_choice(chat(server, response_format=PERSON_FORMAT))
    assert choice["finish_reason"] == "stop"
    assert list(person(choice["message"]["content"])) == ["name", "age", "married"]


def test_a_stream_says_the_same(server: RunningServer) -> None:
    whole = only_choice(chat(server, response_format=PERSON_FORMAT))["message"]["content"]
    streamed = chat(server, response_format=PERSON_FORMAT, stream=True)
    lines = [line for line in streamed.text.split("\n\n") if line.startswith("data: {")]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    deltas = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(deltas) == whole
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_every_choice_keeps_to_it(server: RunningServer) -> None:
    response = chat(server, response_format=PERSON_FORMAT, n=4, temperature=1.5, seed=1)
    texts = [choice["message"]["content"] for choice in response.json()["choices"]]
    assert len({json.dumps(person(text)) for text in texts}) > 1


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_regex": "[0-9]{3}-[0-9]{2}"}, "[0-9]{3}-[0-9]{2}"),
        ({"structured_outputs": {"choice": ["tea", "coffee"]}}, "tea|coffee"),
        ({"guided_choice": ["tea"]}, "tea"),
        ({"guided_grammar": 'start: "a" /[0-9]{2}/ "b"'}, "a[0-9]{2}b"),
        ({"grammar": 'root ::= "x" [0-9] [0-9]'}, "x[0-9][0-9]"),
        ({"json_schema": {"const": 7}}, "7"),
        ({"guided_json": '{"enum": [1, 2]}'}, "[12]"),
    ],
)
def test_other_ways_to_ask(server: RunningServer, fields: dict[str, Any], pattern: str) -> None:
    choice = only_choice(chat(server, **fields))
    assert re.fullmatch(pattern, choice["message"]["content"])
    assert choice["finish_reason"] == "stop"


def test_completions_keep_to_it_too(server: RunningServer) -> None:
    body = {"prompt": ["one", "two"], "max_tokens": 200, "response_format": PERSON_FORMAT}
    with server.client() as client:
        answer = client.post("/v1/completions", json=body).json()
    assert [person(choice["text"]) for choice in answer["choices"]]
    assert len(answer["choices"]) == 2


def test_what_max_tokens_cuts_off_says_so(server: RunningServer) -> None:
    choice = only_choice(chat(server, response_format=PERSON_FORMAT, max_tokens=6))
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", '{"name')


def test_logprobs_come_one_per_token(server: RunningServer) -> None:
    choice = only_choice(chat(server, guided_choice=["tea"], logprobs=True, top_logprobs=2))
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["t", "e", "a"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unsatisfiable enum": ({"guided_json": {"enum": []}}, "no output can satisfy it"),
    "unsatisfiable range": (
        {"guided_json": {"type": "integer", "minimum": 5, "maximum": 3}},
        "no output can satisfy it",
    ),
    "unsupported keyword": (
        {"guided_json": {"type": "array", "uniqueItems": True}},
        "uniqueItems",
    ),
    "remote reference": ({"guided_json": {"$ref": "http://127.0.0.1:1/x"}}, "127.0.0.1"),
    "endless recursion": (
        {"guided_json": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}},
        "does it ever end",
    ),
    "bad regex": ({"guided_regex": "("}, "unclosed group"),
    "regex of many bytes": ({"guided_regex": "a{50000}"}, "does it ever end"),
    "too long": ({"guided_regex": "a" * 300_000}, "at most"),
    "bad grammar": ({"grammar": "root ::= ["}, "neither Lark nor GBNF"),
    "intersections": (
        {
            "guided_json": {
                "type": "string",
                "allOf": [{"pattern": f".*{c}.*"} for c in "abcdefghijklmnopqrst"],
            }
        },
        "too complex",
    ),
    "a huge automaton": (
        {"guided_json": {"type": "integer", "multipleOf": 1000003}},
        "too complex",
    ),
    "two at a time": ({"guided_regex": "a", "guided_choice": ["a"]}, "send one"),
    "no schema": ({"response_format": {"type": "json_schema"}}, "json_schema.schema"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_refused_says_why(server: RunningServer, name: str, *, stream: bool) -> None:
    fields, message = REFUSED[name]
    began = time.monotonic()
    response = chat(server, **fields, stream=stream)
    assert time.monotonic() - began < 4  # about 0.6 seconds, on a machine that does nothing else
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert message in error["message"]
    assert error["param"] == list(fields)[-1]
    assert error["type"] == "invalid_request_error"


def test_a_bomb_does_not_stop_the_others(server: RunningServer) -> None:
    """Answers that are under way go on while the bomb is compiled, and the next request is taken."""

    def bomb(number: int) -> int:
        patterns = [{"pattern": f".*{c}{number}.*"} for c in "abcdefghijklmnopqrst"]
        return chat(server, guided_json={"type": "string", "allOf": patterns}).status_code

    with ThreadPoolExecutor(4) as pool:
        bombs = [pool.submit(bomb, number) for number in range(3)]
        choice = only_choice(chat(server, response_format=PERSON_FORMAT))
        assert person(choice["message"]["content"])
        assert {done.result() for done in bombs} <= {400, 503}
