"""The HTTP server with certificates of its own: who gets in, and renewal while it serves."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from support.certificates import Pair, make_pair
from support.servers import RunningServer, command, environment, free_port, running_server

PATIENCE = 2.0
"""Seconds that the server has for the slow."""
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def own(folder: Path) -> Pair:
    return make_pair(folder, "server")


@pytest.fixture(scope="module")
def friend(folder: Path) -> Pair:
    return make_pair(folder, "friend")


def trusting(own: Pair, shown: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=own.cert)
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    return context


def settings(own: Pair, client_ca: Path | None = None) -> dict[str, Any]:
    tls = {"cert": str(own.cert), "key": str(own.key)}
    return {"server": {"tls": tls | ({"client_ca": str(client_ca)} if client_ca else {})}}


@pytest.fixture(scope="module")
def server(folder: Path, own: Pair) -> Iterator[RunningServer]:
    config = settings(own)
    config["server"]["receive_timeout"] = PATIENCE
    with running_server(folder, config, tls=trusting(own)) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(folder: Path, own: Pair, friend: Pair) -> Iterator[RunningServer]:
    config = settings(own, friend.cert)
    with running_server(folder, config, tls=trusting(own, friend)) as server:
        yield server


def inferctl(server: RunningServer, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "inferflux_cli", "models", "list", "--url", server.url, *arguments],
        env=environment({"INFERCTL_API_KEY": "all-key"}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_answers_come_encrypted(server: RunningServer) -> None:
    with server.client() as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert f"serving on https://127.0.0.1:{server.port}" in server.log.read_text()


def test_a_stranger_is_not_trusted(server: RunningServer) -> None:
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx2.get(f"{server.url}/livez")


def test_an_old_protocol_is_refused(server: RunningServer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    # Some systems refuse it by themselves.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", server.port)) as connection,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(connection)
    assert server.ready()


def test_plain_http_gets_no_answer(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP" not in connection.recv(1024)
    assert server.ready()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half"])
def test_a_handshake_that_does_not_go_on_is_ended(server: RunningServer, said: bytes) -> None:
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10 * PATIENCE) as connection:
        connection.sendall(said)
        assert connection.recv(1024) == b""
    assert PATIENCE - 0.5 < time.monotonic() - begun < 5 * PATIENCE
    assert server.ready()


def test_only_clients_with_a_certificate_get_in(
    mutual: RunningServer, own: Pair, folder: Path
) -> None:
    with mutual.client() as client:
        assert client.get("/v1/models").status_code == 200
    for shown in (None, make_pair(folder, "stranger")):
        with pytest.raises((httpx2.HTTPError, ssl.SSLError)):
            httpx2.get(f"{mutual.url}/livez", verify=trusting(own, shown))
    assert mutual.ready()


def test_inferctl_trusts_what_it_is_told_to(
    server: RunningServer, mutual: RunningServer, own: Pair, friend: Pair
) -> None:
    status, said = inferctl(server)
    assert status == 3
    assert "--ca-file" in said
    assert inferctl(server, "--ca-file", str(own.cert))[0] == 0
    status, said = inferctl(mutual, "--ca-file", str(own.cert))
    assert status != 0
    assert "--client-cert" in said
    shown = ("--client-cert", str(friend.cert), "--client-key", str(friend.key))
    assert inferctl(mutual, "--ca-file", str(own.cert), *shown)[0] == 0
    status, said = inferctl(server, "--ca-file", "nowhere.pem")
    assert (status, "nowhere.pem" in said) == (1, True)
    assert inferctl(server, *shown[:2])[0] == 2


def test_a_certificate_is_renewed_while_the_server_runs(tmp_path: Path) -> None:
    old, new = make_pair(tmp_path, "old"), make_pair(tmp_path, "new")
    used = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    replace(used, old)
    with running_server(tmp_path, settings(used), tls=trusting(old)) as server:
        # Half of a pair: the old one stays in use.
        shutil.copy(new.cert, used.cert)
        wait_for(lambda: "old certificate stays" in server.log.read_text())
        assert server.ready()
        replace(used, new)
        server.tls = trusting(new)
        wait_for(server.ready)
        assert "a new certificate is in use" in server.log.read_text()
        assert server.stop() == 0


def replace(used: Pair, other: Pair) -> None:
    for source, target in ((other.cert, used.cert), (other.key, used.key)):
        fresh = target.with_suffix(".fresh")
        shutil.copy(source, fresh)
        fresh.replace(target)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("broken", ["missing", "nonsense", "of another pair"])
def test_without_a_good_pair_it_does_not_start(
    tmp_path: Path, own: Pair, friend: Pair, broken: str
) -> None:
    key = {"missing": tmp_path / "none.key", "nonsense": tmp_path / "x.key"}.get(broken, friend.key)
    (tmp_path / "x.key").write_text("nonsense")
    tls = {"cert": str(own.cert), "key": str(key)}
    config = {"server": {"port": free_port(), "tls": tls}, "runtime": {"backend": "stub"}}
    file = tmp_path / "server.yaml"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        command(file),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert "server.tls: the certificate cannot be used" in done.stderr
    assert str(key) in done.stderr
    assert "Traceback" not in done.stderr
