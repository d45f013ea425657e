from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

import pytest
from bench import BenchError
from bench.prompts import Calibration
from bench.regimes.dialects import DIALECTS
from bench.regimes.situation import Numbers, Surroundings
from bench.regimes.streams import ByteStream
from bench.servers import RunningServer, ServerSpec, load_specs

from inferflux_core.config import load_config

COUNTS = ("completion_tokens", "output_tokens", "eval_count", "total_output_tokens")
COMPLETE = (
    "".join(f'data: {{"{name}":128}}\n\n' for name in COUNTS) + '{"finish_reason":"length"}\n\n'
).encode()
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
Requests = list[tuple[str, dict[str, object]]]


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


class Fake(asyncio.Protocol):
    """Answers everything with the same bytes; without any, it hangs up."""

    def __init__(self, answer: bytes, requests: Requests) -> None:
        self._answer = answer
        self._requests = requests
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        if len(body) < int(head.lower().split(b"content-length:")[1].split()[0]):
            return
        self._received = b""
        self._requests.append((head.decode(), json.loads(body)))
        if self._answer:
            self._transport.write(self._answer)
        else:
            self._transport.close()


def stage(answer: bytes) -> tuple[Numbers, Requests]:
    """The numbers of a server that answers so, and what it was asked."""
    requests: Requests = []

    async def run() -> Numbers:
        listening = await asyncio.get_running_loop().create_server(
            lambda: Fake(answer, requests), "127.0.0.1", 0
        )
        async with listening:
            return await staged(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")

    return asyncio.run(run()), requests


async def staged(url: str) -> Numbers:
    spec = ServerSpec(name="fake", command="", url=url, api_key="KEY", model="m")

    async def restart() -> RunningServer:
        raise AssertionError

    around = Surroundings(RunningServer(spec, 0, 0.0), Calibration(), 0, 1, restart)
    return await DIALECTS.stage(around)


def test_every_dialect_is_measured_beside_chats() -> None:
    numbers, requests = stage(HEAD + chunk(COMPLETE) + END)

    assert all(value > 0 for value in numbers.values())
    assert [name for name in numbers if name.endswith("/ openai chat, tok/s")] == [
        f"{name} / openai chat, tok/s"
        for name in (
            *("openai completions", "openai responses", "anthropic messages", "ollama chat"),
            *("ollama generate", "lmstudio v0 chat", "lmstudio v1 chat"),
        )
    ]
    paths = [head.split()[1] for head, _ in requests]
    assert paths.count("/v1/chat/completions") == 32 * (1 + 3 * 7) + 3 * 50
    assert {paths.count(path) for path in set(paths) - {"/v1/chat/completions"}} == {32 * (1 + 3)}
    assert all(body["model"] == "m" and body["stream"] for _, body in requests)
    assert all("Bearer KEY" in head for head, _ in requests)
    assert max(len(json.dumps(body)) for _, body in requests) > 200_000


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy", "busy"),
        (HEAD + chunk(COMPLETE.replace(b"128", b"127")) + END, "no b'\"completion_tokens\":128'"),
        (b"", "connection lost"),
    ],
)
def test_what_is_not_complete_is_not_measured(answer: bytes, problem: str) -> None:
    with pytest.raises(BenchError, match=problem):
        stage(answer)


class Sent(asyncio.Transport):
    """Takes what is written."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_an_end_is_found_however_it_is_cut(cut: int) -> None:
    answer = HEAD + chunk(b"x" * 50) + chunk(b'"n":1') + END
    pieces = [HEAD, *(answer[at : at + cut] for at in range(len(HEAD), len(answer), cut))]

    async def run() -> list[bool]:
        stream = ByteStream("fake")
        stream.connection_made(Sent())
        exchange = asyncio.create_task(stream.exchange(b"", b""))
        ended = []
        for piece in pieces:
            await asyncio.sleep(0)
            stream.data_received(piece)
            await asyncio.sleep(0)
            ended.append(exchange.done())
        await exchange
        return ended

    assert asyncio.run(run()) == [False] * (len(pieces) - 1) + [True]


def test_the_files_for_it_are_valid() -> None:
    folder = Path(__file__).parents[1]
    (spec,) = load_specs(folder / "stub_servers.yaml")
    config = load_config(folder / "stub.yaml", {}, [])

    assert spec.arguments[-1] == "bench/stub.yaml"
    assert spec.url.endswith(f":{config.server.port}")
    assert spec.api_key == config.auth.api_keys[0].key
    assert spec.model == config.runtime.backend
