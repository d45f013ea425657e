from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from bench.serve import main
from bench.servers import tree_memory
from bench.tests.fake_server import FakeServer

FAKE = str(Path(__file__).with_name("fake_server.py"))
SMALL = ["--prompt-tokens", "60", "--output-tokens", "4"]


@pytest.fixture
def serve() -> Iterator[Callable[[FakeServer], str]]:
    """Run fake servers in a thread of their own; main() has its own event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = AsyncExitStack()

    def start(server: FakeServer) -> str:
        entered = stack.enter_async_context(server.serve())
        return asyncio.run_coroutine_threadsafe(entered, loop).result(10)

    async def stop() -> None:
        await stack.aclose()
        # Every client has gone; let the server notice, or its sockets would be left open.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    yield start
    asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --------------------------------------------------------------------------------------- run


def test_run_measures_every_level(
    serve: Callable[[FakeServer], str], capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeServer()
    url = serve(server)
    arguments = ["run", "--url", f"fake={url}", *SMALL, "--runs", "2", "--concurrency", "1,3"]
    assert main([*arguments, "--requests", "6", "--json"]) == 0
    one, three = json.loads(capsys.readouterr().out)["fake"]
    assert (one["concurrency"], three["concurrency"]) == (1, 3)
    assert one["requests"] == three["requests"] == 12
    assert one["output_tokens"] == 24
    assert one["prompt_tokens"] == pytest.approx(60, abs=2)
    assert one["errors"] == one["short"] == 0
    assert one["tokens_per_second"] > 0
    assert server.most_busy == 3
    assert len(server.bodies) == 2 + 3 + 2 * (6 + 6)  # calibration, warm-up, runs


def test_run_for_a_time(
    serve: Callable[[FakeServer], str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--url", serve(FakeServer()), *SMALL, "--runs", "1", "--duration", "1"]
    assert main([*arguments, "--concurrency", "2", "--json"]) == 0
    (level,) = next(iter(json.loads(capsys.readouterr().out).values()))
    assert level["requests"] > 2
    assert 0.9 < level["seconds"] < 5.0


def test_run_prints_a_table_for_each_target(
    serve: Callable[[FakeServer], str], capsys: pytest.CaptureFixture[str]
) -> None:
    urls = [serve(FakeServer()), serve(FakeServer(merge=2))]
    arguments = ["run", "--url", f"one={urls[0]}", "--url", f"two={urls[1]}", *SMALL]
    assert main([*arguments, "--runs", "1", "--concurrency", "2"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("one\n")
    assert "\ntwo\n" in out
    assert "two: run 1/1" in err


def test_answers_that_are_too_short_fail_the_run(
    serve: Callable[[FakeServer], str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--url", serve(FakeServer(missing=1)), *SMALL, "--concurrency", "1"]
    assert main([*arguments, "--requests", "2", "--json"]) == 1
    (level,) = next(iter(json.loads(capsys.readouterr().out).values()))
    assert level["short"] == level["requests"]
    assert main([*arguments, "--requests", "2", "--no-ignore-eos"]) == 0


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (FakeServer(mode="status"), "cannot be measured: HTTP 503"),
        (FakeServer(usage=False), "reports no usage.prompt_tokens"),
    ],
)
def test_a_server_that_cannot_be_measured_is_named(
    server: FakeServer,
    message: str,
    serve: Callable[[FakeServer], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--url", f"fake={serve(server)}", *SMALL]) == 1
    error = capsys.readouterr().err
    assert "error: fake" in error
    assert message in error


# ------------------------------------------------------------------------------------ tokens


def test_tokens_shows_all_counts(
    serve: Callable[[FakeServer], str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(FakeServer(merge=2))
    assert main(["tokens", "--url", f"fake={url}", *SMALL, "--samples", "1"]) == 0
    assert "fake: asked 4, usage 4, events 2, tokenized again -, 8 char" in capsys.readouterr().out


def test_tokens_fails_if_some_are_missing(
    serve: Callable[[FakeServer], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokens", "--url", f"fake={serve(FakeServer(missing=1))}", *SMALL]) == 1
    assert "asked 4, usage 3" in capsys.readouterr().out


# ----------------------------------------------------------------------------------- compare


def compare(*modes: str) -> list[str]:
    arguments = ["compare", *SMALL, "--concurrency", "1,2", "--requests", "2"]
    for name, mode in zip("ab", modes, strict=True):
        port = free_port()
        arguments += ["--server", f"{name}={sys.executable} {FAKE} {port} {mode}"]
        arguments += ["--server-url", f"{name}=http://127.0.0.1:{port}"]
    return arguments


def test_compare_starts_measures_and_stops_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*compare("good", "good"), "--runs", "2"]) == 0
    out, err = capsys.readouterr()
    order = [line.split("starting ")[1] for line in err.splitlines() if "starting" in line]
    assert order == ["a", "b", "b", "a"]
    for title in ("tok/s", "TTFT p99 ms", "ITL p50 ms", "peak RSS MiB", "ready s"):
        assert title in out


def test_compare_as_json_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ports = free_port(), free_port()
    servers = [
        {
            "name": name,
            "command": [sys.executable, FAKE, str(port)],
            "url": f"http://127.0.0.1:{port}",
            "env": {"PYTHONDONTWRITEBYTECODE": "1"},
        }
        for name, port in zip("ab", ports, strict=True)
    ]
    file = tmp_path / "servers.yaml"
    file.write_text(json.dumps({"servers": servers}))
    arguments = ["compare", "--servers", str(file), *SMALL, "--concurrency", "1", "--runs", "1"]
    assert main([*arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert list(result) == ["a", "b"]
    (run,) = result["a"]
    assert run["ready_seconds"] > 0
    assert 5 < run["rss_mib"] < 500
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, "a server is still running"


def test_compare_shows_why_a_server_did_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(compare("good", "crash")) == 1
    error = capsys.readouterr().err
    assert "b ended with code 3:\n  | cannot find the model" in error


def test_compare_refuses_an_address_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", *SMALL]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name in "ab":
            arguments += ["--server", f"{name}=true", "--server-url", f"{name}={url}"]
        assert main(arguments) == 1
    assert "something else already listens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "two servers with different names are needed, not: none"),
        (["--server", "a=x"], "needs --server-url a="),
        (["--server", "ax"], "not of the form NAME=VALUE"),
        (["--servers", "absent.yaml"], "absent.yaml"),
    ],
)
def test_compare_says_what_it_needs(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_memory_is_that_of_the_whole_family() -> None:
    async def measure() -> tuple[float, float]:
        # A shell that waits for a child which holds 64 MiB.
        grow = "import sys; b = bytearray(64 << 20); print('x', flush=True); sys.stdin.read()"
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            '"$0" -c "$1"; true',
            sys.executable,
            grow,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        await process.stdout.readline()
        memory = tree_memory(process.pid)
        process.stdin.close()
        await process.wait()
        return memory.peak_rss, memory.pss or 64.0

    peak_rss, pss = asyncio.run(measure())
    assert 64 < peak_rss < 300
    assert 64 <= pss <= peak_rss
