"""Starting, securing, guarding and stopping the port for gRPC."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2
from support.certificates import make_pair
from support.rpc import Client, channel
from support.servers import KEYS, command, environment, free_port, running_server

from inferflux_api.grpc.protos import vllm_pb2 as vllm
from inferflux_api.grpc.protos import xai_pb2 as xai

BEARER = {"authorization": "Bearer all-key"}
RUNTIME = {"backend": "scripted", "max_model_len": 4096}
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]


def said(text: str, **fields: Any) -> xai.GetCompletionsRequest:
    message = xai.Message(role=xai.ROLE_USER, content=[xai.Content(text=text)])
    return xai.GetCompletionsRequest(
        **{"messages": [message], "temperature": 0, "max_tokens": 200, **fields}
    )


def chat_on(made: grpc.Channel) -> Client:
    return Client(made, xai.DESCRIPTOR.services_by_name["Chat"], BEARER)


def start(
    folder: Path, grpc_config: dict[str, Any], **env: str
) -> subprocess.CompletedProcess[str]:
    """A server that is expected to give up."""
    tree = {
        "server": {"port": 0, "grpc": grpc_config},
        "auth": {"api_keys": KEYS},
        "runtime": RUNTIME,
    }
    file = folder / "server.yaml"
    file.write_text(yaml.safe_dump(tree))
    return subprocess.run(
        command(file),
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = start(tmp_path, {"port": taken.getsockname()[1]})
    assert done.returncode == 1
    assert "cannot listen for gRPC on 127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_packages_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "grpc.py").write_text("raise ModuleNotFoundError('no grpc', name='grpc')")
    path = [str(tmp_path), environment()["PYTHONPATH"]]
    tree = {"server": {"port": 0, "grpc": {"port": 0}}, "auth": {"api_keys": KEYS}}
    file = tmp_path / "server.yaml"
    file.write_text(yaml.safe_dump(tree | {"runtime": RUNTIME}))
    done = subprocess.run(
        command(file),
        env=environment() | {"PYTHONPATH": ":".join(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "server.grpc.port is set and the packages for gRPC cannot be imported" in done.stderr
    assert "pip install 'inferflux-api[grpc]'" in done.stderr


def test_nothing_of_it_is_imported_without_a_port() -> None:
    code = "import sys, inferflux_api.main; assert 'grpc' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_is_not_a_certificate_stops_the_start(tmp_path: Path) -> None:
    for name in ("a.crt", "a.key"):
        (tmp_path / name).write_text("nonsense")
    tls = {"cert": str(tmp_path / "a.crt"), "key": str(tmp_path / "a.key")}
    done = start(tmp_path, {"port": 0, "tls": tls})
    missing = start(tmp_path, {"port": 0, "tls": tls | {"key": str(tmp_path / "none")}})
    assert (done.returncode, missing.returncode) == (1, 1)
    assert "cannot listen for gRPC" in done.stderr
    assert "server.grpc.tls" in done.stderr
    assert "cannot read the key of server.grpc.tls" in missing.stderr
    assert "Traceback" not in done.stderr + missing.stderr


# ------------------------------------------------------------------------------- encryption


def test_only_clients_with_a_certificate_get_in(tmp_path: Path) -> None:
    own, client = make_pair(tmp_path, "server"), make_pair(tmp_path, "client")
    port = free_port()
    tls = {"cert": str(own.cert), "key": str(own.key), "client_ca": str(client.cert)}
    config = {"server": {"grpc": {"port": port, "tls": tls}}, "runtime": RUNTIME}
    known = grpc.ssl_channel_credentials(
        own.cert.read_bytes(), client.key.read_bytes(), client.cert.read_bytes()
    )
    strangers = [None, grpc.ssl_channel_credentials(own.cert.read_bytes())]
    with running_server(tmp_path, config):
        with channel(port, known) as made:
            answer = chat_on(made).GetCompletion(said("[say]hi[/say]"))
            assert answer.outputs[0].message.content == "hi"
        for credentials in strangers:
            with channel(port, credentials) as made, pytest.raises(grpc.RpcError) as caught:
                chat_on(made).GetCompletion(said("[say]hi[/say]"), timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


# ------------------------------------------------------------------- limits and guardrails


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    port = free_port()
    config = {
        "server": {"grpc": {"port": port}},
        "guardrails": {"blocklist": ["zebra"]},
        "rate_limit": {"requests_per_minute": 4},
        "runtime": RUNTIME,
    }
    with running_server(tmp_path_factory.mktemp("guarded"), config), channel(port) as made:
        yield made


def test_guardrails_and_limits_hold_here_too(guarded: grpc.Channel) -> None:
    chat = chat_on(guarded)
    engine = Client(guarded, vllm.DESCRIPTOR.services_by_name["VllmEngine"], BEARER)

    def code(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        return caught.value.code(), caught.value.details()

    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert code(lambda: chat.GetCompletion(said("a zebra")))[0] is invalid
    assert code(lambda: list(chat.GetCompletionChunk(said("a zebra"))))[0] is invalid
    tokens = vllm.GenerateRequest(text="hello")
    assert code(lambda: list(engine.Generate(tokens))) == (
        invalid,
        "token ids are refused while guardrails are active; use xai_api.Chat, or HTTP",
    )
    stream = chat.GetCompletionChunk(said("[say]fine[/say]"))
    assert dict(stream.initial_metadata())["x-ratelimit-remaining-requests"] == "1"
    assert chat.GetCompletion(said("[say]fine[/say]")).outputs[0].message.content == "fine"
    with pytest.raises(grpc.RpcError) as caught:
        chat.GetCompletion(said("[say]fine[/say]"))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000


# --------------------------------------------------------------------------- the life of it


def test_what_runs_is_finished_when_the_server_stops(tmp_path: Path) -> None:
    port = free_port()
    config = {"server": {"grpc": {"port": port}, "drain_timeout": 20}, "runtime": RUNTIME}
    with running_server(tmp_path, config) as server, channel(port) as made:
        statuses: list[int] = []
        watch = Client(made, HEALTH, {}).Watch(health_pb2.HealthCheckRequest())
        statuses.append(next(watch).status)
        stream = chat_on(made).GetCompletionChunk(said("[slow]", max_tokens=60))
        first = next(stream)
        ended: list[int] = []
        stopping = threading.Thread(target=lambda: ended.append(server.stop()))
        started = time.monotonic()
        stopping.start()
        statuses.append(next(watch).status)
        with channel(port) as late, pytest.raises(grpc.RpcError) as caught:
            chat_on(late).GetCompletion(said("late"), timeout=5)
        chunks = [first, *stream]
        stopping.join()
        seconds = time.monotonic() - started

    serving = health_pb2.HealthCheckResponse
    assert statuses == [serving.SERVING, serving.NOT_SERVING]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert chunks[-1].outputs[0].finish_reason == xai.REASON_MAX_LEN
    assert chunks[-1].usage.completion_tokens == 60
    assert ended == [0]
    assert seconds < 15, "who watches health held up the end"
    assert "Traceback" not in server.log.read_text()


def test_a_dead_engine_is_told_of(tmp_path: Path) -> None:
    port = free_port()
    config = {"server": {"grpc": {"port": port}}, "runtime": RUNTIME}
    with running_server(tmp_path, config) as server, channel(port) as made:
        chat = chat_on(made)
        with pytest.raises(grpc.RpcError) as caught:
            chat.GetCompletion(said("[crash]"))
        assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
        server.wait_ready()
        assert chat.GetCompletion(said("[say]back[/say]")).outputs[0].message.content == "back"
