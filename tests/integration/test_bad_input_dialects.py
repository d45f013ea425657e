"""Bad input over HTTP, refused by each dialect in its own words, and never with a failure."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from itertools import product
from typing import Any

import httpx2
import pytest
from support.error_shapes import assert_refusal
from support.servers import RunningServer, running_server

Body = dict[str, Any]

MODEL = "scripted"
MAX_BYTES = 1_000_000
USER = {"role": "user", "content": "hello"}
TALKS: dict[str, Body] = {
    "/v1/chat/completions": {"messages": [USER], "max_tokens": 2},
    "/v1/completions": {"prompt": "hello", "max_tokens": 2},
    "/v1/responses": {"input": "hello", "max_output_tokens": 2},
    "/v1/messages": {"messages": [USER], "max_tokens": 2},
    "/api/chat": {"messages": [USER], "options": {"num_predict": 2}, "stream": False},
    "/api/generate": {"prompt": "hello", "options": {"num_predict": 2}, "stream": False},
    "/api/v0/chat/completions": {"messages": [USER], "max_tokens": 2},
    "/api/v0/completions": {"prompt": "hello", "max_tokens": 2},
    "/api/v1/chat": {"input": "hello", "max_output_tokens": 2},
}
OTHERS: dict[str, Body] = {
    "/v1/embeddings": {"input": "hello"},
    "/v1/rerank": {"query": "hello", "documents": ["hello"]},
    "/v1/responses/input_tokens": {"input": "hello"},
    "/v1/messages/count_tokens": {"messages": [USER]},
    "/api/embed": {"input": "hello"},
    "/api/embeddings": {"prompt": "hello"},
    "/api/v0/embeddings": {"input": "hello"},
    "/v1/tokenize": {"prompt": "hello"},
    "/v1/models/load": {},
    "/api/v1/models/load": {},
}
EVERY = {**TALKS, **OTHERS}
DIALECTS = ("/v1/chat/completions", "/v1/messages", "/api/chat", "/api/v1/chat")
"""One path of each."""
DEEP_TEXT = "[" * 100_000
MALFORMED = {
    "nothing": b"",
    "a beginning": b"{",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"hello"',
    "UTF-16": '{"model": "m"}'.encode("utf-16"),
    "a byte that is no UTF-8": b'{"model": "\xff"}',
    "half a surrogate pair": b'{"model": "\\ud800"}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep, and closed": b'{"a":' + b"[" * 80 + b"]" * 80 + b"}",
    "not a number": b'{"temperature": NaN}',
    "infinity": b'{"temperature": Infinity}',
    "too large for a float": b'{"temperature": 1e999}',
    "thousands of digits": b'{"seed": 1' + b"0" * 5000 + b"}",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Whatever is sent to it, it writes no traceback."""
    config = {"server": {"max_body_bytes": MAX_BYTES}}
    with running_server(tmp_path_factory.mktemp("bad-input"), config) as running:
        engine = running.engine_pid()
        yield running
        assert running.engine_pid() == engine, "the engine did not survive"
        assert running.stop() == 0, running.log.read_text()
        log = running.log.read_text()
        assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx2.Client]:
    with server.client() as opened:
        yield opened


def post(client: httpx2.Client, path: str, **fields: Any) -> httpx2.Response:
    """A good request but for these fields."""
    return client.post(path, json={"model": MODEL, **EVERY[path], **fields})


def refused(response: httpx2.Response, *statuses: int) -> str:
    assert response.status_code in statuses, response.text
    return assert_refusal(
        response.request.url.path, response.headers["content-type"], response.content
    )


@pytest.mark.parametrize("path", EVERY)
def test_good_requests_are_answered(client: httpx2.Client, path: str) -> None:
    if path == "/api/v1/models/load":
        assert client.post(path, json={"model": MODEL}).status_code == 200
    else:
        assert post(client, path).status_code == 200, post(client, path).text


@pytest.mark.parametrize("path", EVERY)
def test_malformed_bodies(client: httpx2.Client, path: str) -> None:
    for what, content in MALFORMED.items():
        response = client.post(path, content=content)
        assert refused(response, 400), what


@pytest.mark.parametrize("path", TALKS)
def test_fields_of_the_wrong_kind(client: httpx2.Client, path: str) -> None:
    for name, wrong in product(EVERY[path], (True, 1.5, [None], "\ud7ff", -(10**30))):
        if name != "stream" and not (isinstance(wrong, str) and name in ("prompt", "input")):
            assert refused(post(client, path, **{name: wrong}), 400)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *((p, "max_tokens") for p in TALKS if p.startswith("/v1/c") or p.startswith("/api/v0")),
        ("/v1/messages", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/api/v1/chat", "max_output_tokens"),
    ],
)
def test_limits_out_of_range(client: httpx2.Client, path: str, name: str) -> None:
    for wrong in (0, -2, 1.5, "2", 10**30, 2**64, 10**400):
        assert refused(post(client, path, **{name: wrong}), 400)


@pytest.mark.parametrize("path", [p for p in TALKS if not p.startswith(("/v1/r", "/v1/m"))])
def test_settings_out_of_range(client: httpx2.Client, path: str) -> None:
    ollama = path in ("/api/chat", "/api/generate")
    for name, wrong in product(
        ("temperature", "top_p", "top_k", "min_p"), (-1, 10**6, 10**30, 10**400, "x", [1])
    ):
        if name == "top_k" and wrong in (-1, 10**6):
            continue
        fields = {"options": {"num_predict": 2, name: wrong}} if ollama else {name: wrong}
        message = refused(post(client, path, **fields), 400)
        assert name in message or "out of range" in message


@pytest.mark.parametrize("path", DIALECTS)
def test_bodies_that_are_too_large(client: httpx2.Client, path: str) -> None:
    assert str(MAX_BYTES) in refused(client.post(path, content=b" " * (MAX_BYTES + 1)), 413)


@pytest.mark.parametrize("path", DIALECTS)
def test_compressed_bodies(client: httpx2.Client, path: str) -> None:
    for coding in ("gzip", "br", "deflate", "zstd"):
        response = client.post(path, content=b"x", headers={"content-encoding": coding})
        assert "compressed" in refused(response, 400)


@pytest.mark.parametrize("path", TALKS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "x", ""])
def test_any_content_type_will_do(client: httpx2.Client, path: str, kind: str) -> None:
    content = json.dumps({"model": MODEL, **TALKS[path]})
    response = client.post(path, content=content, headers={"content-type": kind})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", TALKS)
def test_what_is_unknown_is_ignored_and_null_is_absent(
    server: RunningServer, client: httpx2.Client, path: str
) -> None:
    document = client.get("/openapi.json").json()
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    nulls = dict.fromkeys(set(schema["properties"]) - {"model", *TALKS[path]} - {"messages"})
    assert post(client, path, **nulls, foo=1, n_discard=-5, prompt_embeds="x").status_code == 200


@pytest.mark.parametrize("path", TALKS)
@pytest.mark.parametrize(
    "text", ["\0", "\x1b[2J\x07", "\u202e\u2066", "e" + "\u0301" * 200, "\ufeff"]
)
def test_strange_characters_are_text(client: httpx2.Client, path: str, text: str) -> None:
    name = next(n for n in ("messages", "prompt", "input") if n in TALKS[path])
    value = [{"role": "user", "content": text}] if name == "messages" else text
    response = post(client, path, **{name: value})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", [*EVERY])
def test_strange_names_of_models(client: httpx2.Client, path: str) -> None:
    for name in (
        "\0",
        "a\r\nset-cookie: x=1",
        "../../etc/passwd",
        "/etc/passwd",
        "x" * 5000,
        "\x1b[2J",
    ):
        response = post(client, path, model=name)
        refused(response, 400, 404)
        assert "set-cookie" not in response.headers


@pytest.mark.parametrize("path", TALKS)
def test_an_error_before_the_first_token_has_its_status_in_streams_too(
    client: httpx2.Client, path: str
) -> None:
    name = next(n for n in ("messages", "prompt", "input") if n in TALKS[path])
    long = [{"role": "user", "content": "x" * 600}] if name == "messages" else "x" * 600
    assert "512" in refused(post(client, path, stream=True, **{name: long}), 400)
    refused(post(client, path, stream=True, model="gpt-9"), 404)


@pytest.mark.parametrize("path", [p for p in TALKS if "completions" in p])
def test_more_answers_than_there_can_be(client: httpx2.Client, path: str) -> None:
    fields: Body = {"n": 10**9}
    refused(post(client, path, **fields), 400)
    if not path.endswith("chat/completions"):
        message = refused(post(client, path, n=16, prompt=["hello"] * 64), 400)
        assert "64 prompts with 16 answers" in message


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"stop": ["x"] * 100_000}),
        ("/v1/chat/completions", {"stop": "x" * 100_000}),
        ("/v1/messages", {"stop_sequences": ["x"] * 100}),
        ("/v1/messages", {"stop_sequences": [""]}),
        ("/api/chat", {"options": {"stop": ["x"] * 100}}),
        ("/api/chat", {"keep_alive": "never"}),
        ("/api/chat", {"options": {"seed": 10**400}}),
        ("/v1/chat/completions", {"logit_bias": {"9" * 5000: 1}}),
        ("/v1/chat/completions", {"logit_bias": {str(n): 1 for n in range(20_000)}}),
        ("/v1/completions", {"logprobs": 1_000_000}),
        ("/v1/responses", {"top_logprobs": 1_000_000}),
        ("/v1/embeddings", {"input": [[10**30]]}),
        ("/v1/embeddings", {"input": [True]}),
        ("/v1/rerank", {"documents": []}),
        ("/v1/rerank", {"documents": ["x"] * 5000}),
        ("/v1/chat/completions", {"messages": [USER] * 5000}),
        ("/v1/messages", {"messages": [USER] * 5000}),
        ("/api/chat", {"messages": [USER] * 5000}),
        ("/v1/chat/completions", {"chat_template_kwargs": {"tools": [], "x": 1}}),
        ("/v1/responses", {"prompt": {"id": "x"}}),
    ],
)
def test_too_much_of_something(client: httpx2.Client, path: str, fields: Body) -> None:
    refused(post(client, path, **fields), 400)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": ["text"]}]}]}),
        ("/v1/responses", {"input": [{"type": ["message"], "role": ["user"]}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": {}}]}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": ["text"]}]}]}),
        ("/v1/messages", {"messages": [{"role": "assistant", "content": [{"type": {}}]}]}),
        ("/v1/messages", {"system": [{"type": []}]}),
        ("/api/v1/chat", {"input": [{"type": ["text"], "content": "x"}]}),
        ("/api/v1/chat", {"reasoning": "much"}),
        ("/api/chat", {"messages": [{"role": "robot", "content": "x"}]}),
        ("/api/chat", {"tools": [{"type": ["function"]}]}),
        ("/v1/chat/completions", {"tool_choice": {"type": ["function"], "function": 5}}),
        ("/v1/responses", {"tool_choice": {"type": "allowed_tools", "allowed_tools": 5}}),
        ("/v1/responses", {"text": {"format": {"type": ["json_schema"]}}}),
        ("/v1/messages", {"output_config": {"format": {"type": []}}}),
    ],
)
def test_parts_of_no_known_kind(client: httpx2.Client, path: str, fields: Body) -> None:
    refused(post(client, path, **fields), 400)


@pytest.mark.parametrize("content", [5, {"a": 1}, "x", None])
def test_what_a_tool_gave_may_be_anything_but_nonsense(
    client: httpx2.Client, content: object
) -> None:
    block = {"type": "tool_result", "tool_use_id": "a", "content": content}
    response = post(client, "/v1/messages", messages=[{"role": "user", "content": [block]}])
    if isinstance(content, str | None):
        assert response.status_code == 200
    else:
        assert "list of blocks" in refused(response, 400)


@pytest.mark.parametrize("schema", ["{", "5", DEEP_TEXT, '"x"', ""])
def test_tools_beside_a_schema_that_is_none(client: httpx2.Client, schema: str) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    response = post(client, "/v1/chat/completions", tools=tools, guided_json=schema)
    if schema:
        assert "JSON" in refused(response, 400)
    else:
        assert response.status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_json": DEEP_TEXT},
        {"guided_json": '{"not":' * 20_000 + "{}" + "}" * 20_000},
        {"guided_regex": "("},
        {"guided_choice": []},
        {"guided_grammar": "root ::= " + "(" * 3000},
        {"guided_json": {"$ref": "#/a"}},
        {"structured_outputs": {"json": {"type": "nothing"}}},
    ],
)
def test_constraints_that_cannot_be(client: httpx2.Client, fields: Body) -> None:
    refused(post(client, "/v1/chat/completions", **fields), 400)


def called(arguments: object, **fields: Any) -> list[Body]:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call | fields]},
        {"role": "tool", "tool_call_id": "a", "content": "ok"},
    ]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": called("[" * 50_000 + "]" * 50_000)}),
        ("/v1/chat/completions", {"messages": called("[" * 50_000)}),
        ("/v1/chat/completions", {"messages": called("{", id=5)}),
        ("/v1/chat/completions", {"messages": called({"a": 10**30})}),
        ("/api/v0/chat/completions", {"messages": called("[" * 50_000 + "]" * 50_000)}),
        ("/api/chat", {"messages": called("[" * 50_000 + "]" * 50_000)}),
        (
            "/v1/responses",
            {
                "input": [
                    {
                        "type": "function_call",
                        "call_id": "a",
                        "name": "f",
                        "arguments": "[" * 50_000 + "]" * 50_000,
                    },
                    {"type": "function_call_output", "call_id": "a", "output": "ok"},
                ]
            },
        ),
    ],
)
def test_arguments_that_a_model_never_wrote(client: httpx2.Client, path: str, fields: Body) -> None:
    """Text within text: no limit on the depth of the body holds for it."""
    response = post(client, path, **fields)
    if response.status_code != 200:
        refused(response, 400)
    assert post(client, path).status_code == 200


@pytest.mark.parametrize(
    "parameters",
    [{"properties": 5}, {"required": 5}, {"type": ["object"]}, {"type": 5}, {"maximum": 10**30}],
)
def test_parameters_of_tools_that_are_no_schema(client: httpx2.Client, parameters: Body) -> None:
    function = {"name": "f", "parameters": {"type": "object", **parameters}}
    tools = [{"type": "function", "function": function}]
    refused(post(client, "/v1/chat/completions", tools=tools, tool_choice="required"), 400)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        f"limit={'9' * 5000}",
        "limit=%C2%B2",
        "order=x",
        "after=%00",
    ],
)
@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
def test_pages_that_there_are_not(client: httpx2.Client, path: str, query: str) -> None:
    refused(client.get(f"{path}?{query}"), 400)


@pytest.mark.parametrize(
    "path", [*EVERY, "/v1/models", "/v1/models/m", "/v1/files/f/content", "/api/tags", "/livez"]
)
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PATCH"])
def test_methods_that_there_are_not(client: httpx2.Client, path: str, method: str) -> None:
    response = client.request(method, path)
    refused(response, 405)
    assert "GET" in response.headers["allow"] or "POST" in response.headers["allow"]


@pytest.mark.parametrize("key", ["all-key", "generate-key", None])
@pytest.mark.parametrize("path", ["/schema", "/schema/", "/schema/openapi.json", "/schema/x"])
def test_the_pages_of_the_framework_are_not_there(
    server: RunningServer, path: str, key: str | None
) -> None:
    with server.client(key) as client:
        refused(client.get(path), 404)


@pytest.mark.parametrize("path", [*EVERY, "/v1/models/m", "/api/v0/models/m"])
def test_refusals_of_callers_have_the_shape_too(server: RunningServer, path: str) -> None:
    method = "POST" if path in EVERY else "GET"
    for key, status in ((None, 401), ("x", 401), ("read-key", 403)):
        with server.client(key) as client:
            response = client.request(method, path, content=b"{")
        if (status, method) != (403, "GET"):
            refused(response, status)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/models/%00", "/v1/models/%ff%fe", "/v1/models/..%2f..%2fetc%2fpasswd"),
        *("/v1/models/a%0d%0aset-cookie:%20x", "/v1/files/..%2f..%2fx/content", "/v1/files/%00"),
        *("/v1/responses/%00", "/v1/batches/%ff", "/api/v0/models/..%2fx", "/%ff", "/v1//models/x"),
        *("/api/nothing", "/v1/messages/nothing", "/api/v1/nothing", "/v1/nothing"),
    ],
)
def test_paths_that_lead_nowhere(client: httpx2.Client, path: str) -> None:
    response = client.get(path)
    refused(response, 404, 405)
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("path", ["/v1/models/nothing", "/v1/nothing", "/v1/files/x", "/schema"])
def test_clients_of_anthropic_understand_every_refusal(client: httpx2.Client, path: str) -> None:
    response = client.get(path, headers={"anthropic-version": "2023-06-01"})
    assert response.status_code == 404
    assert_refusal("/v1/messages", response.headers["content-type"], response.content)


NAME = 'content-disposition: form-data; name="{}"'
FILE = NAME.format("file") + '; filename="x"\r\n'


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=a", b"--a"),
        ("multipart/form-data; boundary=a", b"--a\r\n" + b"x: y\r\n" * 5000),
        ("multipart/form-data; boundary=a", f"--a\r\n{FILE}\r\nx\r\n--a--\r\n".encode()),
        (
            "multipart/form-data; boundary=a",
            f"--a\r\n{FILE}\r\nx\r\n--a\r\n{NAME.format('purpose')}\r\n\r\n".encode()
            + b"\xff\r\n--a--\r\n",
        ),
        (
            "multipart/form-data; boundary=a",
            f"--a\r\n{NAME.format('purpose')}\r\ncontent-type: text/plain; charset=none\r\n"
            "\r\nbatch\r\n--a--\r\n".encode(),
        ),
        ("application/json", b"{}"),
    ],
)
def test_malformed_forms(client: httpx2.Client, kind: str, content: bytes) -> None:
    refused(client.post("/v1/files", content=content, headers={"content-type": kind}), 400)


LINE = b"POST /v1/chat/completions HTTP/1.1"
CONTENT = b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1}'
LENGTH = b"content-length: %d" % len(CONTENT)
CHUNKED = b"transfer-encoding: chunked"


@pytest.mark.parametrize(
    ("line", "headers", "content", "status"),
    [
        (LINE, [LENGTH], CONTENT, 200),
        (LINE, [LENGTH, CHUNKED], b"1\r\n{\r\n0\r\n\r\n", 400),
        (LINE, [LENGTH, b"content-length: 5"], CONTENT, 400),
        (LINE, [b"content-length: -5"], b"", 400),
        (LINE, [b"content-length: " + b"9" * 30], b"", 400),
        (LINE, [b"transfer-encoding: xchunked"], b"1\r\n{\r\n0\r\n\r\n", 400),
        (LINE, [CHUNKED, CHUNKED], b"1\r\n{\r\n0\r\n\r\n", 400),
        (LINE, [CHUNKED], b"zz\r\n", 400),
        (LINE, [LENGTH, b"x: a\r\n b"], CONTENT, 400),
        (LINE, [LENGTH, b"host: y"], CONTENT, 400),
        (LINE, [LENGTH, b"x: a\0b"], CONTENT, 400),
        (LINE, [LENGTH, b"authorization: Bearer \xff"], CONTENT, 401),
        (b"OPTIONS * HTTP/1.1", [], b"", 404),
        (b"GET //[ HTTP/1.1", [], b"", 404),
        (b"GET /v1/\xff HTTP/1.1", [], b"", 400),
        (b"GET /v1/models/%zz%f HTTP/1.1", [], b"", 404),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1", [], b"", 431),
        (b"CONNECT x:80 HTTP/1.1", [], b"", 400),
    ],
)
def test_requests_that_are_hardly_http(
    server: RunningServer, line: bytes, headers: list[bytes], content: bytes, status: int
) -> None:
    head = [line, b"host: x", b"authorization: Bearer all-key", *headers]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"\r\n".join(head) + b"\r\n\r\n" + content)
        assert connection.recv(65536).startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.parametrize("host", ["x/health?y=", "x/api/", "foo?", "x#", "@", ""])
def test_hosts_decide_nothing(server: RunningServer, host: str) -> None:
    for key, statuses in ((None, (400, 401)), ("all-key", (400, 404))):
        with server.client(key) as client:
            response = client.get("/v1/models/nothing", headers={"host": host})
        refused(response, *statuses)


@pytest.mark.parametrize("path", TALKS)
def test_no_answer_can_forge_events(client: httpx2.Client, path: str) -> None:
    said = '[say]\n\ndata: [DONE]\n\nevent: error\n{"error":"x"}\n[/say]'
    name = next(n for n in ("messages", "prompt", "input") if n in TALKS[path])
    value = [{"role": "user", "content": said}] if name == "messages" else said
    limits: Body = {"max_tokens": 60}
    if path.startswith("/api/v1") or path == "/v1/responses":
        limits = {"max_output_tokens": 60}
    elif path in ("/api/chat", "/api/generate"):
        limits = {"options": {"num_predict": 60}}
    response = post(client, path, stream=True, **limits, **{name: value})
    assert response.status_code == 200
    lines = response.text.splitlines()
    assert lines.count("data: [DONE]") <= 1
    assert "event: error" not in lines
    assert '{"error":"x"}' not in lines
    assert "\\n" in response.text


def test_the_server_still_answers(client: httpx2.Client) -> None:
    for path in TALKS:
        assert post(client, path).status_code == 200
