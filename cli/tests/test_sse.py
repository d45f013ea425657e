"""The viewer and player of streams."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inferctl_fakes import PATIENCE, FakeServer, chat_chunk, chat_stream, ndjson, sse

PATH = "/v1/events"
NAMED = b'event: greeting\nid: 7\ndata: {"a":\ndata: [1]}\n\n'


@pytest.fixture
def stranger() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


def test_events_for_people(server, inferctl_child) -> None:
    server.stream(PATH, b": a comment\n\n", NAMED, b"data: [DONE]\n\n")

    done = inferctl_child("sse", PATH)

    assert (done.code, done.err) == (0, "")
    first, second, rest = done.out.split("\n\n")
    head, _, body = first.partition("\n")
    assert head.startswith("+0.")
    assert head.endswith(" s greeting id=7")
    assert body == '{\n  "a": [\n    1\n  ]\n}'
    assert second.endswith(" s message id=7\n[DONE]")
    assert (rest, server.requests[0].method) == ("", "GET")


def test_events_for_scripts(server, inferctl) -> None:
    server.stream(PATH, NAMED, "data: kein JSON ä\n\n".encode())

    lines = inferctl("sse", PATH, "--output", "json").lines

    offsets = [line.pop("offset_ms") for line in lines]
    assert offsets == sorted(offsets)
    assert lines == [
        {"event": "greeting", "id": "7", "data": '{"a":\n[1]}'},
        {"event": "message", "id": "7", "data": "kein JSON ä"},
    ]


def test_json_lines_are_a_stream_too(server, inferctl) -> None:
    server.stream(PATH, b'{"n": 1}\n\n{"n"', b": 2}\n", b'{"n": 3}', kind="application/x-ndjson")

    lines = inferctl("sse", PATH, "--json").lines

    assert [(line["event"], line["data"]) for line in lines] == [
        (None, f'{{"n": {n}}}') for n in (1, 2, 3)
    ]
    assert " s\n{\n" in inferctl("sse", PATH).out


@pytest.mark.parametrize("how", ["text", "file", "stdin"])
def test_data_is_posted(server, inferctl, tmp_path: Path, how: str) -> None:
    server.stream(PATH, NAMED)
    file = tmp_path / "body.json"
    file.write_text('{"stream": true}')
    given = {"text": '{"stream": true}', "file": f"@{file}", "stdin": "@-"}[how]

    assert inferctl("sse", PATH, "--data", given, stdin=file.read_text()).code == 0
    assert server.bodies(PATH) == [{"stream": True}]


def test_the_key_goes_to_the_server_only(server, stranger, inferctl) -> None:
    for fake in (server, stranger):
        fake.stream(PATH, NAMED)
        fake.stream("/evil", NAMED)
    ours = f"http://127.0.0.1:{server.port}{PATH}?a=1"
    server.stream(f"{PATH}?a=1", NAMED)
    key = ("--api-key", "secret")

    inferctl("sse", PATH, *key)
    inferctl("sse", ours, *key)
    done = inferctl("sse", f"http://127.0.0.1:{stranger.port}{PATH}", *key)
    inferctl("sse", f"//127.0.0.1:{stranger.port}/evil", *key)

    sent = [r.headers["authorization"] for r in server.requests]
    assert sent[:2] == ["Bearer secret"] * 2
    assert (done.code, len(stranger.requests)) == (0, 1)
    assert "authorization" not in stranger.requests[0].headers


def test_a_redirect_does_not_take_the_key_along(server, stranger, inferctl) -> None:
    location = f"http://127.0.0.1:{stranger.port}{PATH}"
    server.raw(PATH, b"", status=307, Location=location)

    done = inferctl("sse", PATH, "--api-key", "secret")

    assert (done.code, stranger.requests) == (1, [])
    assert "HTTP 307" in done.err


def test_a_stranger_who_wants_a_key(server, stranger, inferctl) -> None:
    stranger.error(PATH, 401, "no_key", "who are you")

    done = inferctl("sse", f"http://127.0.0.1:{stranger.port}{PATH}", "--api-key", "secret")

    assert done.code == 4
    assert "the API key was not sent there" in done.err


@pytest.mark.parametrize("kind", ["application/json", "text/html; charset=utf-8", ""])
def test_what_is_not_a_stream(server, inferctl, kind: str) -> None:
    server.raw(PATH, b"{}", kind)

    done = inferctl("sse", PATH)

    assert (done.code, done.out) == (1, "")
    assert "not with an event stream" in done.err
    assert '{"stream": true}' in done.err


def test_an_event_without_end_is_not_kept_in_memory(server, inferctl) -> None:
    server.stream(PATH, NAMED, b"data: ", *[b"x" * 2**20] * 17, None)

    done = inferctl("sse", PATH, "--json")

    assert (done.code, len(done.lines)) == (1, 1)
    assert "larger than 16,777,216 bytes" in done.error["message"]
    assert server.disconnected.wait(PATIENCE)


def test_errors_of_the_server(server, inferctl) -> None:
    server.error(PATH, 429, "rate_limit_exceeded", "slow down", Retry_After="7")

    assert inferctl("sse", PATH, "--json").error["hint"] == "retry after 7 s"


def test_ctrl_c_leaves_and_keeps_what_came(server, tmp_path: Path) -> None:
    server.stream(PATH, NAMED, None)
    file = tmp_path / "kept.jsonl"
    command = [sys.executable, "-m", "inferflux_cli", "sse", PATH, "--record", str(file)]
    with subprocess.Popen(
        [*command, "--port", str(server.port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert os.read(child.stdout.fileno(), 1) == b"+"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=PATIENCE)

    assert (child.returncode, err) == (130, b"")
    assert json.loads(file.read_text())["event"] == "greeting"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert server.disconnected.wait(PATIENCE)


def test_a_reader_that_leaves_is_no_failed_recording(server, tmp_path: Path) -> None:
    gone = threading.Event()
    server.stream(PATH, NAMED, gone, NAMED)
    command = [sys.executable, "-m", "inferflux_cli", "sse", PATH]
    with subprocess.Popen(
        [*command, "--record", str(tmp_path / "kept"), "--port", str(server.port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert os.read(child.stdout.fileno(), 1) == b"+"
        child.stdout.close()
        gone.set()
        err = child.stderr.read()

    assert (child.returncode, err) == (141, b"")


def test_what_was_recorded_plays_the_same(server, inferctl, tmp_path: Path) -> None:
    server.stream(PATH, NAMED, *chat_stream("ž\x1b[31m", "🦙"))
    file = tmp_path / "kept.jsonl"

    seen = inferctl("sse", PATH, "--record", str(file))
    asked = len(server.requests)

    assert inferctl("sse", "--play", str(file), "--fast").out == seen.out
    as_json = inferctl("sse", "--play", str(file), "--fast", "--json")
    assert as_json.out == file.read_text()
    assert len(server.requests) == asked


def test_a_refused_stream_does_not_cost_the_old_recording(server, inferctl, tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    file.write_text("old")
    server.error(PATH, 404, "not_found", "no")

    inferctl("sse", PATH, "--record", str(file))

    assert file.read_text() == "old"


@pytest.mark.parametrize(("options", "seconds"), [((), 0.3), (("--speed", "2"), 0.15)])
def test_playing_takes_as_long_as_it_took(
    inferctl, tmp_path: Path, options: tuple[str, ...], seconds: float
) -> None:
    file = tmp_path / "kept.jsonl"
    file.write_bytes(b"".join(ndjson(*({"offset_ms": n, "data": "x"} for n in (0, 100.4, 300)))))

    started = time.monotonic()
    done = inferctl("sse", "--play", str(file), *options)

    assert time.monotonic() - started >= seconds
    assert done.out == "+0.000 s\nx\n\n+0.100 s\nx\n\n+0.300 s\nx\n\n"


def test_playing_fast_does_not_wait(inferctl, tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    file.write_text('{"offset_ms": 900000000, "data": "x"}\n')

    assert inferctl("sse", "--play", str(file), "--fast").out == "+900000.000 s\nx\n\n"


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "3",
        "{}",
        '{"offset_ms": -1, "data": "x"}',
        '{"offset_ms": NaN, "data": "x"}',
        '{"offset_ms": 1e99, "data": "x"}',
        '{"offset_ms": "1", "data": "x"}',
        '{"offset_ms": 1, "data": {}}',
        '{"offset_ms": 1, "data": "x", "event": 3}',
        "\xff",
    ],
)
def test_what_cannot_be_played(inferctl, tmp_path: Path, line: str) -> None:
    file = tmp_path / "kept.jsonl"
    file.write_bytes(b'{"offset_ms": 0, "data": "first"}\n' + line.encode("latin-1") + b"\n")

    done = inferctl("sse", "--play", str(file), "--fast")

    assert (done.code, done.out) == (1, "+0.000 s\nfirst\n\n")
    assert f"line 2 of {file} is not an event" in done.err


def test_files_that_cannot_be_used(server, inferctl, tmp_path: Path) -> None:
    server.stream(PATH, NAMED)

    assert "cannot read /nowhere" in inferctl("sse", "--play", "/nowhere").err
    assert "cannot read /nowhere" in inferctl("sse", PATH, "--data", "@/nowhere").err
    assert "is not JSON" in inferctl("sse", PATH, "--data", "{").err
    assert "cannot write" in inferctl("sse", PATH, "--record", str(tmp_path)).err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("events",),
        ("ftp://host/x",),
        ("http://",),
        ("http://user:pw@host/x",),
        (PATH, "--play", "x"),
        (PATH, "--fast"),
        ("--play", "x", "--data", "{}"),
        ("--play", "x", "--record", "y"),
        ("--play", "x", "--speed", "0"),
        ("--play", "x", "--speed", "2", "--fast"),
    ],
)
def test_wrong_usage(inferctl, arguments: tuple[str, ...]) -> None:
    done = inferctl("sse", *arguments)

    assert done.code == 2
    assert "pw" not in done.err


def test_a_terminal_is_safe_from_the_stream(server, terminal) -> None:
    server.stream(PATH, b"event: \x1b]0;evil\x07\n" + sse(chat_chunk("\x9b31m")))

    screen = terminal("sse", PATH)

    assert screen.wait() == 0
    assert "]0;evil" in screen.raw
    assert "\x1b]" not in screen.raw
    assert "\x9b" not in screen.raw
