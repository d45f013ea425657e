"""Every failure has an exit code and says what to do next."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from inferctl_fakes import DONE, PATIENCE, sse, text_chunk

PATH = "/v1/completions"
ASK = ("completion", "--prompt", "p", "--model", "m")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_server(inferctl_child, free_port: int) -> None:
    done = inferctl_child(*ASK, "--port", str(free_port))

    assert (done.code, done.out) == (3, "")
    assert "inferfluxd --config config/server.yaml" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "hint"),
    [
        (400, "invalid_request", 1, None),
        (401, "invalid_api_key", 4, "set INFERCTL_API_KEY or pass --api-key"),
        (403, "insufficient_scope", 4, "scope `generate`"),
        (429, "rate_limit_exceeded", 1, "retry after 7 s"),
        (503, "overloaded", 1, "retry after 7 s"),
        (500, "engine_error", 1, None),
    ],
)
@pytest.mark.parametrize("stream", [(), ("--stream",)])
def test_server_errors(
    server, inferctl, status: int, code: str, exit_code: int, hint: str | None, stream: tuple[str]
) -> None:
    server.error(PATH, status, code, "that went wrong", Retry_After="7")

    done = inferctl(*ASK, *stream)

    assert (done.code, done.out) == (exit_code, "")
    assert done.err.startswith("error: that went wrong\n")
    assert (hint in done.err) if hint else ("hint" not in done.err)


def test_reading_needs_another_scope(server, inferctl) -> None:
    server.error("/v1/models", 403, "insufficient_scope", "no")

    assert "scope `read`" in inferctl("models", "list").err


def test_an_unknown_model_names_the_known_ones(server, inferctl) -> None:
    server.json("/v1/models", {"data": [{"id": "llama"}, {"id": "smol"}]})
    server.error(PATH, 404, "model_not_found", "no model `m`")

    done = inferctl(*ASK)

    assert done.code == 1
    assert "available models: llama, smol" in done.err


@pytest.mark.parametrize("wish", [("--json",), ("--output", "json"), ("--output=json",)])
def test_errors_as_json(server, inferctl, wish: tuple[str, ...]) -> None:
    server.error(PATH, 429, "rate_limit_exceeded", "slow down", Retry_After="7")

    done = inferctl(*ASK, *wish)

    assert (done.code, done.out) == (1, "")
    assert done.error["code"] == "rate_limit_exceeded"
    assert done.error["status"] == 429
    assert done.error["hint"] == "retry after 7 s"
    assert done.error["exit_code"] == 1


@pytest.mark.parametrize("wrong", [("nonsense",), ("chat", "--max-tokens", "0"), ("chat",)])
@pytest.mark.parametrize("wish", [("--json",), ("--output", "json"), ("--output=json",)])
def test_wrong_usage_as_json(inferctl, wrong: tuple[str, ...], wish: tuple[str, ...]) -> None:
    done = inferctl(*wrong, *wish)

    assert (done.code, done.out) == (2, "")
    assert done.error["exit_code"] == 2


def test_the_last_wish_for_an_output_wins(server, inferctl) -> None:
    server.json(PATH, text_chunk("x", "stop"))

    assert inferctl("--json", *ASK, "--output", "text").out == "x\n"
    assert inferctl("--output", "text", *ASK, "--json").lines[0]["object"] == "text_completion"


def test_scripts_get_no_notes_between_their_json(server, inferctl) -> None:
    server.json(PATH, text_chunk("x", "length"))

    assert "raise --max-tokens" in inferctl(*ASK).err
    assert inferctl(*ASK, "--json").err == ""


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"choices": [3]}', b"\xff\xfe"])
@pytest.mark.parametrize("status", [200, 502])
def test_nonsense_answers(server, inferctl, body: bytes, status: int) -> None:
    server.raw(PATH, body, "text/html", status)

    done = inferctl(*ASK)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")


def test_nonsense_instead_of_a_stream(server, inferctl) -> None:
    server.raw(PATH, b"<html>", "text/html")

    done = inferctl(*ASK, "--stream")

    assert done.code == 1
    assert "event stream" in done.err


def test_silence_ends_at_the_timeout(server, inferctl) -> None:
    server.stream(PATH, sse(text_chunk("Hel")), None)

    done = inferctl(*ASK, "--stream", "--timeout", "0.2")

    assert (done.code, done.out) == (1, "Hel\n")
    assert "raise --timeout" in done.err
    assert server.disconnected.wait(PATIENCE)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("completion",),
        ("chat",),
        ("completion", "--prompt", "p", "--max-tokens", "0"),
        ("nonsense",),
        ("status", "--host", "a b"),
        ("status", "--host", "a/b"),
        ("status", "--host", "1.2.3.4:5"),
        ("status", "--url", "http://127.0.0.1:1"),
    ],
)
def test_wrong_usage(inferctl, arguments: tuple[str, ...]) -> None:
    assert inferctl(*arguments).code == 2


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ftp://host", "http://", "http://u:pw@host"])
def test_bad_addresses(server, address: str, monkeypatch, capsys) -> None:
    from inferflux_cli.main import main

    monkeypatch.setattr(sys, "argv", ["inferctl", "status", "--url", address])
    with pytest.raises(SystemExit) as exit_:
        main()

    assert exit_.value.code == 2
    assert "pw" not in capsys.readouterr().err


def test_options_stand_before_and_after_and_the_last_wins(server, inferctl) -> None:
    server.json(PATH, text_chunk("x"))

    inferctl("--api-key", "before", *ASK, "--api-key", "after")

    assert server.requests[-1].headers["authorization"] == "Bearer after"


def test_the_key_comes_from_the_environment(server, inferctl, monkeypatch) -> None:
    monkeypatch.setenv("INFERCTL_API_KEY", "from-env\n")
    server.json(PATH, text_chunk("x"))

    inferctl(*ASK)
    inferctl(*ASK, "--api-key", "from-flag")

    sent = [r.headers["authorization"] for r in server.requests]
    assert sent == ["Bearer from-env", "Bearer from-flag"]


@pytest.mark.parametrize("key", ["sk-very-secret", "sk-very\nsecret", "sk-very-sécret"])
def test_the_key_is_never_shown(server, inferctl, key: str) -> None:
    server.error(PATH, 401, "invalid_api_key", "unknown key")

    done = inferctl(*ASK, "--api-key", key)

    assert done.code in (2, 4)
    assert "very" not in done.out + done.err


def test_a_key_for_this_machine_bypasses_the_proxy(server, inferctl, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.json(PATH, text_chunk("x"))

    assert inferctl(*ASK).code == 0


def test_a_url_may_end_in_v1(server) -> None:
    url = f"http://127.0.0.1:{server.port}/v1/"
    done = subprocess.run(
        [sys.executable, "-m", "inferflux_cli", "models", "list", "--url", url],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "m\tme\n")


def test_ctrl_c_ends_quietly_and_tells_the_server(server) -> None:
    server.stream(PATH, sse(text_chunk("Hel")), None)
    command = [sys.executable, "-m", "inferflux_cli", *ASK, "--stream", "--port", str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert os.read(child.stdout.fileno(), 3) == b"Hel"
        child.send_signal(signal.SIGINT)
        rest, err = child.communicate(timeout=PATIENCE)

    assert (child.returncode, rest, err) == (130, b"\n", b"")
    assert server.disconnected.wait(PATIENCE)


def test_a_reader_that_leaves_is_no_error_message(server) -> None:
    gone = threading.Event()
    server.stream(PATH, sse(text_chunk("Hel")), gone, sse(text_chunk("lo")), DONE)
    command = [sys.executable, "-m", "inferflux_cli", *ASK, "--stream", "--port", str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert os.read(child.stdout.fileno(), 3) == b"Hel"
        child.stdout.close()
        gone.set()
        err = child.stderr.read()

    assert (child.returncode, err) == (141, b"")
