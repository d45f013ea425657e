from __future__ import annotations

import asyncio

import pytest
from bench import BenchError
from bench.client import Answer, Connection, Target
from bench.load import Workload, ask
from bench.tests.fake_server import FakeServer


def ask_once(server: FakeServer, tokens: int = 5, timeout: float = 20.0) -> Answer:
    async def main() -> Answer:
        async with server.serve() as url:
            workload = Workload(output_tokens=tokens, timeout=timeout)
            return await ask(Target("fake", url, api_key="key", model="tiny"), workload, "a b c")

    return asyncio.run(main())


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("cut", [0, 1, 2, 7, 64])
def test_an_answer_is_the_same_however_it_is_cut(cut: int, newline: str) -> None:
    answer = ask_once(FakeServer(cut=cut, newline=newline))
    assert answer.error == ""
    assert answer.text == "é é é é é "
    assert (answer.events, answer.completion_tokens, answer.prompt_tokens) == (5, 5, 16)
    assert answer.finish_reason == "length"
    assert answer.started < answer.stamps[0] <= answer.stamps[-1] <= answer.finished


def test_usage_counts_where_events_carry_several_tokens() -> None:
    answer = ask_once(FakeServer(merge=3), tokens=7)
    assert (answer.events, answer.completion_tokens) == (3, 7)


def test_events_count_where_there_is_no_usage() -> None:
    answer = ask_once(FakeServer(usage=False))
    assert (answer.completion_tokens, answer.prompt_tokens) == (5, None)


def test_the_request_is_what_was_asked_for() -> None:
    server = FakeServer()
    ask_once(server, tokens=3)
    assert server.bodies == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "a b c"}],
            "max_tokens": 3,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
        }
    ]
    assert server.heads[0].startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert "Authorization: Bearer key\r\n" in server.heads[0]


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("status", 'HTTP 503: {"error":{"message":"overloaded"}}'),
        ("error", 'error event: {"message":"engine died"}'),
        ("hang-up", "connection lost: closed by the server"),
        ("cut", "the stream ended without finish_reason or [DONE]"),
        ("garbage", "bad event: "),
    ],
)
def test_failures_are_told_apart(mode: str, error: str) -> None:
    assert ask_once(FakeServer(mode=mode)).error.startswith(error)


def test_a_finish_reason_is_an_end_without_done() -> None:
    answer = ask_once(FakeServer(mode="no-done"), tokens=3)
    assert (answer.error, answer.finish_reason, answer.completion_tokens) == ("", "length", 3)


def test_a_silent_server_is_given_up() -> None:
    assert ask_once(FakeServer(mode="silent"), timeout=0.1).error == "no complete answer in 0.1 s"


def test_nobody_listens() -> None:
    async def main() -> Answer:
        async with FakeServer().serve() as url:
            target = Target("fake", url)
        return await ask(target, Workload(timeout=10), "hello")

    assert asyncio.run(main()).error.startswith("ConnectionRefusedError")


def test_something_else_than_http_listens() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp ready\r\n")
        await writer.drain()
        writer.close()

    async def main() -> Answer:
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await ask(Target("m", f"http://127.0.0.1:{port}"), Workload(timeout=10), "hello")

    assert asyncio.run(main()).error.startswith("not HTTP")


@pytest.mark.parametrize(("close", "connections"), [("", 1), ("announced", 3), ("silently", 3)])
def test_a_connection_is_kept_as_long_as_the_server_keeps_it(close: str, connections: int) -> None:
    server = FakeServer(close=close)

    async def main() -> list[str]:
        async with server.serve() as url, Connection(target := Target("fake", url)) as connection:
            request = target.request(Workload(output_tokens=2).body("hi"))
            return [(await connection.send(request, 10)).error for _ in range(3)]

    assert asyncio.run(main()) == ["", "", ""]
    assert server.connections == connections


def test_a_user_goes_on_after_a_failure() -> None:
    server = FakeServer(mode="error")

    async def main() -> list[bool]:
        async with server.serve() as url, Connection(target := Target("fake", url)) as connection:
            request = target.request(Workload(output_tokens=2).body("hi"))
            first = await connection.send(request, 10)
            server.mode = "good"
            second = await connection.send(request, 10)
            return [bool(first.error), bool(second.error)]

    assert asyncio.run(main()) == [True, False]


def test_a_request_is_not_sent_for_ever() -> None:
    """A server that closes every connection unanswered gets one request on each, and no more."""
    requests = 0

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.close()

    async def main() -> Answer:
        async with await asyncio.start_server(slam, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await ask(Target("m", f"http://127.0.0.1:{port}"), Workload(timeout=10), "hello")

    assert asyncio.run(main()).error == "connection lost: closed by the server"
    assert requests == 1


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_addresses_may_end_in_v1(url: str) -> None:
    request = Target("t", url).request({})
    assert request.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h:1\r\n")


def test_an_address_must_be_one() -> None:
    with pytest.raises(BenchError, match="not a http"):
        Target("t", "localhost:8080")
