from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from support.servers import RunningServer

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


def post(server: RunningServer, content: bytes | str, path: str = "/v1/chat/completions") -> Any:
    with server.client() as client:
        return client.post(path, content=content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe{",
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        '{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": []}',
        b'{"messages": "hi"}',
        b'{"messages": [{"role": "robot", "content": "hi"}]}',
        b'{"messages": [{"role": "user", "content": 5}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"messages":' + b"[" * 65 + b"]" * 65 + b"}",
        json.dumps({**CHAT, "temperature": "hot"}),
        '{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        '{"messages": [{"role": "user", "content": "x"}], "temperature": Infinity}',
        '{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
    ],
)
def test_malformed_bodies_are_refused(server: RunningServer, content: bytes | str) -> None:
    response = post(server, content)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("temperature", 2.5),
        ("temperature", -1),
        ("top_p", 1.5),
        ("top_p", -0.1),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("n", 0),
        ("n", 1000),
        ("frequency_penalty", 9),
        ("top_logprobs", 50),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"5": 1000}),
        ("logit_bias", {"999999": 1}),
        ("stop", [""]),
        ("stop", ["x"] * 100),
        ("stop_token_ids", [999999]),
        ("top_k", -7),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "xml"}),
        ("chat_template_kwargs", {"messages": []}),
    ],
)
def test_parameters_out_of_range_are_named(
    server: RunningServer, param: str, value: object
) -> None:
    response = post(server, json.dumps({**CHAT, "logprobs": True, param: value}))
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert param in (error["param"] or "") or param in error["message"]


def test_unknown_model(server: RunningServer) -> None:
    response = post(server, json.dumps({**CHAT, "model": "gpt-9"}))
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "model_not_found"
    assert "scripted" in error["message"]


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(
    server: RunningServer,
) -> None:
    response = post(server, json.dumps({"messages": [{"role": "user", "content": "x" * 600}]}))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "512" in error["message"]
    assert "619" in error["message"]


def test_images_are_refused(server: RunningServer) -> None:
    content = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]
    response = post(server, json.dumps({"messages": [{"role": "user", "content": content}]}))
    assert response.status_code == 400
    assert "image_url" in response.json()["error"]["message"]


def test_a_huge_body_is_refused_before_it_is_read(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer all-key\r\n"
            b"content-length: 1000000000\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_an_endless_chunked_body_is_cut_off(server: RunningServer) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer all-key\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        try:
            for _ in range(1000):
                connection.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            # The answer may come, and the connection close, while we still write.
            return
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_endless_headers_are_cut_off(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
        received = b""
        try:
            for i in range(5000):
                connection.sendall(b"x-%d: %b\r\n" % (i, b"y" * 100))
            received = connection.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            return
        assert received.startswith(b"HTTP/1.1 431") or received == b""


def test_compressed_bodies_are_refused(server: RunningServer) -> None:
    with server.client() as client:
        response = client.post(
            "/v1/chat/completions", content=b"x", headers={"content-encoding": "gzip"}
        )
    assert response.status_code == 400


@pytest.mark.parametrize(
    "raw", [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 100]
)
def test_what_is_not_http_is_refused(server: RunningServer, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(raw)
        assert b"400" in connection.recv(65536).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/chat/completions", 405), ("DELETE", "/v1/models", 405)],
)
def test_routes_that_are_not_there(
    server: RunningServer, method: str, path: str, status: int
) -> None:
    with server.client() as client:
        response = client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_the_server_still_answers(server: RunningServer) -> None:
    assert post(server, json.dumps(CHAT)).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 10**40},
        {"max_tokens": 10**30},
        {"stop_token_ids": [10**30]},
        {"logit_bias": {str(10**30): 1}},
        {"top_k": 10**30},
    ],
)
def test_numbers_beyond_all_bounds_are_refused(
    server: RunningServer, fields: dict[str, Any]
) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], **fields}
    with server.client() as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 400
