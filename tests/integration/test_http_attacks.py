"""Attacks below and around HTTP, over raw sockets: each is refused or does no harm."""

from __future__ import annotations

import itertools
import json
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from support.error_shapes import assert_refusal
from support.servers import RunningServer, running_server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

SECONDS = 10
PATIENCE = 1.5
"""Seconds that the server has for the slow."""
MAX_BYTES = 1_000_000
KEY = b"host: x\r\nauthorization: Bearer all-key\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\n" + KEY
PROBE = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
WHISPER = "told-in-confidence"
ASK = {"messages": [{"role": "user", "content": WHISPER}], "max_tokens": 1}
BODY = json.dumps(ASK).encode()
CHUNKS = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
LENGTH = b"content-length: %d\r\n" % len(BODY)
PUBLIC = {"/", "/livez", "/healthz", "/readyz", "/api/version", "/lmstudio-greeting"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Whatever is sent to it, it keeps its engine, reports no failure of its own, and logs line by line."""
    config = {
        "server": {"receive_timeout": PATIENCE, "max_body_bytes": MAX_BYTES},
        "logging": {"format": "json", "level": "debug"},
    }
    with running_server(tmp_path_factory.mktemp("attacks"), config) as running:
        engine = running.engine_pid()
        yield running
        assert running.engine_pid() == engine, "the engine did not survive"
        assert running.stop() == 0, running.log.read_text()
        log = running.log.read_text()
        records = [json.loads(line) for line in log.split("\n")[:-1]]
        own = [record for record in records if record["logger"].startswith("inferflux")]
        assert own
        assert not [record for record in own if record["level"] == "error"], log
        for unwanted in ("Fatal error", "never retrieved", "all-key", WHISPER):
            assert unwanted not in log, log


@pytest.fixture(autouse=True)
def unharmed(server: RunningServer) -> Iterator[None]:
    """After every attack, others are served, and what was opened is closed."""
    before = open_files(server)
    yield
    assert status(server, POST + LENGTH + b"\r\n" + BODY) == 200
    wait_until(lambda: open_files(server) <= before)


def open_files(server: RunningServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def resident_bytes(server: RunningServer) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * 4096


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def connected(server: RunningServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        yield connection


def answer(connection: socket.socket) -> HTTPResponse:
    response = HTTPResponse(connection)
    response.begin()
    return response


def status(server: RunningServer, *pieces: bytes) -> int:
    """The status of the first answer, if there is one: 0 if the connection is closed without."""
    with connected(server) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            return answer(connection).status
        except (ConnectionError, OSError):
            return 0


def ended(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def flooded(connection: socket.socket, piece: bytes) -> None:
    for _ in range(10_000):
        connection.sendall(piece)


def chat(server: RunningServer, content: bytes, **headers: str) -> httpx2.Response:
    with server.client() as client:
        return client.post("/v1/chat/completions", content=content, headers=headers)


def metric(server: RunningServer, name: str) -> float:
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize(
    "request_",
    [
        PROBE.replace(b"\r\n", b"\n"),
        b"GET /livez HTTP/1.1\r\nhost: x\ry: z\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\n y: z\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/3.7\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        POST + b"transfer-encoding: \x0bchunked\r\n\r\n" + CHUNKS + b"\r\n",
        POST + b"transfer-encoding: gzip, chunked\r\n\r\n" + CHUNKS + b"\r\n",
        POST + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS + b"\r\n",
        POST + b"transfer-encoding: chunked, identity\r\n\r\n" + CHUNKS + b"\r\n",
        POST + LENGTH + b"transfer-encoding: chunked\r\n\r\n" + CHUNKS + b"\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n" + CHUNKS.replace(b"\r\n", b"\n") + b"\n",
        POST + b"transfer-encoding: chunked\r\n\r\n0x" + CHUNKS + b"\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
        POST + LENGTH * 2 + b"\r\n" + BODY,
        POST + b"content-length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,
        POST + b"content-length: +%d\r\n\r\n" % len(BODY) + BODY,
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(server: RunningServer, request_: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(request_ + PROBE)
        received = ended(connection)
    assert received.startswith(b"HTTP/1.1 400")
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"x"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_no_request_hides_in_the_body_of_an_upgrade(
    server: RunningServer, upgrade: bytes, framing: str
) -> None:
    """The parser stops where another protocol may begin, and would go on there with a new request."""
    hidden = b"GET /v1/models HTTP/1.1\r\n" + KEY + b"\r\n"
    head = POST + b"connection: upgrade\r\nupgrade: %b\r\n" % upgrade
    if framing == "length":
        pieces = [head + b"content-length: %d\r\n\r\n" % len(hidden), hidden]
    else:
        pieces = [head + b"transfer-encoding: chunked\r\n\r\n", hidden]
    with connected(server) as connection:
        connection.sendall(pieces[0])
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
        try:
            connection.sendall(pieces[1])
        except ConnectionError:
            return
        assert b"HTTP/1.1" not in ended(connection)


def test_an_offer_of_another_protocol_is_not_taken(server: RunningServer) -> None:
    head = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    assert status(server, head) == 200


def test_what_follows_a_body_is_no_header(server: RunningServer) -> None:
    stranger = POST.replace(b"authorization: Bearer all-key\r\n", b"")
    head = b"transfer-encoding: chunked\r\n\r\n" + CHUNKS
    assert status(server, stranger + head + b"authorization: Bearer all-key\r\n\r\n") == 401
    assert status(server, POST + head + b"authorization: Bearer read-key\r\n\r\n") == 200


@pytest.mark.parametrize(
    "flood",
    [b"x: y\r\n" * 10_000, b"x: " + b"y" * 60_000, b"1;" + b"a" * 60_000],
    ids=["trailers", "one trailer", "an extension"],
)
def test_what_comes_with_a_body_is_bounded(server: RunningServer, flood: bytes) -> None:
    before = resident_bytes(server)
    beginning = b"" if flood.startswith(b"1;") else b"0\r\n"
    more = flood.removeprefix(b"1;").removeprefix(b"x: ") if b"\r\n" not in flood else flood
    with connected(server) as connection:
        connection.sendall(POST + b"transfer-encoding: chunked\r\n\r\n" + beginning + flood)
        with pytest.raises(ConnectionError):
            flooded(connection, more)
    assert resident_bytes(server) < before + 16_000_000


def test_a_body_in_pieces_of_a_byte(server: RunningServer) -> None:
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    assert (
        status(server, POST + b"transfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n") == 200
    )
    large = b"1\r\n \r\n" * (MAX_BYTES + 1) + b"0\r\n\r\n"
    assert status(server, POST + b"transfer-encoding: chunked\r\n\r\n", large) in (413, 0)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 200, 431),
        (b"GET /livez HTTP/1.1\r\nhost: x\r\na: " + b"b" * 100_000 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"b" * 100_000 + b": a\r\n", 431),
        (b"GET /livez?" + b"b" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n", 431),
        (b"G" * 100_000, 400),
    ],
)
def test_heads_are_bounded(server: RunningServer, head: bytes, expected: int) -> None:
    assert status(server, head + b"\r\n") == expected
    assert (
        status(server, b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 100 + b"\r\n") == 200
    )


@pytest.mark.parametrize(
    "trickle",
    [b"", b"G", b"GET /livez HTTP/1.1\r\nhost: x\r\na", POST + LENGTH + b"\r\n{"],
    ids=["nothing", "a letter", "half a head", "half a body"],
)
def test_whoever_takes_too_long_is_told_to_go(server: RunningServer, trickle: bytes) -> None:
    with ExitStack() as stack:
        crowd = [stack.enter_context(connected(server)) for _ in range(200)]
        begun = time.monotonic()
        for connection in crowd:
            connection.sendall(trickle)
        assert status(server, POST + LENGTH + b"\r\n" + BODY) == 200
        assert time.monotonic() - begun < 2 * PATIENCE, "the crowd got in the way of others"
        for connection in crowd:
            assert ended(connection).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begun < SECONDS


def test_bytes_now_and_then_gain_no_time(server: RunningServer) -> None:
    begun = time.monotonic()
    with connected(server) as connection:
        connection.settimeout(PATIENCE / 5)
        received = b""
        while not received:
            connection.sendall(b"x")
            try:
                received = connection.recv(65536)
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 4")
    assert time.monotonic() - begun < SECONDS


def test_whoever_takes_nothing_of_an_answer_is_disconnected(server: RunningServer) -> None:
    before = open_files(server)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.connect(("127.0.0.1", server.port))
        connection.settimeout(PATIENCE / 4)
        try:
            for _ in range(400):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\n" + KEY + b"\r\n")
        except TimeoutError:
            pass
        wait_until(lambda: open_files(server) <= before)


def long_stream() -> bytes:
    body = json.dumps(
        {
            "messages": [{"role": "user", "content": "[slow]"}],
            "max_tokens": 400,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    return POST + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("begun", [True, False], ids=["in mid-stream", "before it begins"])
@pytest.mark.parametrize("way", ["reset", "half"])
def test_whoever_leaves_computes_no_longer(server: RunningServer, way: str, begun: bool) -> None:
    """To close for writing is to leave: from here it looks the same."""
    with connected(server) as connection:
        connection.sendall(long_stream())
        wait_until(lambda: metric(server, "inferflux_requests_running") == 1)
        if begun:
            connection.recv(1)
        if way == "half":
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        wait_until(lambda: metric(server, "inferflux_requests_running") == 0)


def test_a_crowd_that_leaves_at_any_moment(server: RunningServer) -> None:
    for moment in range(40):
        with connected(server) as connection:
            connection.sendall(long_stream()[: 40 * moment] if moment % 2 else long_stream())
            connection.settimeout(0.002 * moment or None)
            if moment % 4 == 2:
                with suppress(TimeoutError):
                    connection.recv(1)
    wait_until(lambda: metric(server, "inferflux_requests_running") == 0)
    wait_until(lambda: metric(server, "inferflux_requests_waiting") == 0)


def test_many_requests_in_one_breath(server: RunningServer) -> None:
    """All are answered, in their order, and not at once."""
    last = PROBE.replace(b"/livez", b"/nothing").replace(
        b"host: x", b"host: x\r\nconnection: close"
    )
    with connected(server) as connection:
        connection.sendall(PROBE * 999 + last)
        received = ended(connection)
    assert received.count(b"HTTP/1.1 200") == 999
    assert received.rindex(b"HTTP/1.1 404") > received.rindex(b"HTTP/1.1 200")


def test_after_the_last_request_comes_none(server: RunningServer) -> None:
    last = PROBE.replace(b"host: x", b"host: x\r\nconnection: close")
    with connected(server) as connection:
        connection.sendall(last + PROBE)
        assert ended(connection).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("method", ["HEAD", "TRACE", "OPTIONS", "CONNECT", "PATCH", "BREW"])
def test_other_methods_open_nothing(server: RunningServer, method: str, version: bytes) -> None:
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    for path in sorted(paths.keys() - PUBLIC) if version == b"1.1" else ["/v1/models"]:
        line = f"{method} {re.sub(r'{.*?}', 'x', path)} HTTP/".encode() + version
        found = status(server, line + b"\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert found in (400, 401, 404, 405), (path, found)


TRICKS: list[Callable[[str], str]] = [
    lambda path: "/" + path,
    lambda path: path.replace("/v1", "/v1/../v1"),
    lambda path: path + "/../" + path.rpartition("/")[2],
    lambda path: "/livez/.." + path,
    lambda path: "/livez%2f.." + path,
    lambda path: path.replace("/", "/%2e/", 1),
    lambda path: path + "/",
    lambda path: path + ";a=b",
    lambda path: path + "%00",
    lambda path: path + "%20",
    lambda path: path + "?a=/livez",
    lambda path: path + "#/livez",
    lambda path: path.upper(),
    lambda path: path.replace("/", "\\"),
    lambda path: path.replace("/", "%2f"),
    lambda path: "http://x" + path,
    lambda path: "http://x/livez@x" + path,
    lambda path: path[:-1] + f"%{ord(path[-1]):02x}",
    lambda path: path[:-1] + f"%25{ord(path[-1]):02x}",
]


def test_no_spelling_of_any_path_opens_it(server: RunningServer) -> None:
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert paths.keys() > PUBLIC
    tricks = itertools.cycle(TRICKS)
    for path in sorted(paths.keys() - PUBLIC):
        method = next(iter(paths[path])).upper()
        for trick in itertools.islice(tricks, 7):
            target = trick(re.sub(r"{.*?}", "x", path))
            line = f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            found = status(server, line.encode())
            assert found in (400, 401, 404, 405), (method, target, found)


def test_nothing_of_a_header_comes_back(server: RunningServer) -> None:
    sent = "a\u2028b%0d%0aset-cookie: x=1"
    names = ("x-request-id", "x-forwarded-host", "x-forwarded-for", "traceparent", "origin")
    headers = [(name.encode(), sent.encode()) for name in names]
    with server.client() as client:
        response = client.get("/v1/models/nothing", headers=headers)
    assert response.status_code == 404
    assert "set-cookie" not in response.headers
    assert "x=1" not in str(response.headers)


def test_of_two_fields_with_one_name_the_last_counts_everywhere(server: RunningServer) -> None:
    """The body is decoded once; what checks it and what answers it see the same."""
    models = b'{"model":"%b","model":"%b",' + BODY[1:]
    assert chat(server, models % (b"scripted", b"nothing")).status_code == 404
    assert chat(server, models % (b"nothing", b"scripted")).status_code == 200
    streams = b'{"stream":true,"stream":false,' + BODY[1:]
    assert chat(server, streams).headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "content",
    [
        b'{"tools":' + b'[{"a":' * 40 + b"1" + b"}]" * 40 + b"," + BODY[1:],
        b'{"metadata":"' + b"\\" * 99_999 + b'"',
        b'{"messages":[' + b"{}," * 200_000 + b"{}]}",
        b'{"messages":[{"role":"user","content":"\xf0\x9f\x98"}]}',
        b'{"messages":[{"role":"user","content":"\\udc00x"}]}',
        b"\xef\xbb\xbf" + BODY,
        BODY + b"{}",
        BODY.replace(b": 1}", b": 1e400}"),
        BODY.replace(b": 1}", b": -0}"),
        BODY.replace(b": 1}", b": " + b"1" * 5000 + b"}"),
        BODY.replace(b": 1}", b": 0x10}"),
        BODY[:-1] + b',"temperature":1e308}',
        BODY[:-1] + b',"temperature":-Infinity}',
        BODY[:-1] + b',"logit_bias":{"5":NaN}}',
        BODY[:-1] + b',"top_p":"0.5"}',
    ],
)
def test_bodies_that_no_client_writes(server: RunningServer, content: bytes) -> None:
    response = chat(server, content)
    assert response.status_code == 400
    assert_refusal("/v1/", response.headers["content-type"], response.content)


def test_a_hundred_thousand_unknown_fields_are_ignored(server: RunningServer) -> None:
    many = b",".join(b'"%d":0' % i for i in range(90_000))
    before = resident_bytes(server)
    assert chat(server, b"{" + many + b"," + BODY[1:]).status_code == 200
    assert resident_bytes(server) < before + 64_000_000


@pytest.mark.parametrize("name", ["chat_template", "n_discard", "prompt_embeds", "cache_salt"])
def test_switches_of_other_servers_turn_nothing_on(server: RunningServer, name: str) -> None:
    plain = {**ASK, "max_tokens": 8, "temperature": 0}
    switched = {**plain, name: "{{ raise_exception('x') }}"}
    answers = [chat(server, json.dumps(body).encode()).json() for body in (plain, switched)]
    assert answers[0]["choices"] == answers[1]["choices"]


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("multipart/form-data; boundary=a", b"--a\r\n\r\nx\r\n--a--\r\n", 400),
        ("application/x-www-form-urlencoded", b"messages=x", 400),
        ("application/json; charset=utf-16", BODY, 200),
        ("application/json; charset=utf-16", BODY.decode().encode("utf-16"), 400),
        ("application/x-msgpack", b"\x80", 400),
        ("text/html", BODY, 200),
    ],
)
def test_a_body_is_json_whatever_it_is_called(
    server: RunningServer, kind: str, content: bytes, expected: int
) -> None:
    response = chat(server, content, **{"content-type": kind})
    assert response.status_code == expected
    assert response.headers["content-type"] == "application/json"


def test_a_compressed_bomb_is_not_opened(server: RunningServer) -> None:
    bomb = zlib.compress(b"[" * 50_000_000)
    before = resident_bytes(server)
    for coding in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
        assert chat(server, bomb, **{"content-encoding": coding}).status_code == 400
    assert resident_bytes(server) < before + 16_000_000


def test_a_message_that_unfolds_ends_its_socket(server: RunningServer) -> None:
    """Compressed, it is small; the socket is closed when it has become too large."""
    headers = {"authorization": "Bearer all-key"}
    before = resident_bytes(server)
    with connect(
        f"ws://127.0.0.1:{server.port}/v1/responses",
        additional_headers=headers,
        compression="deflate",
    ) as client:
        client.send("[" * 100_000_000)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=SECONDS)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    assert resident_bytes(server) < before + 64_000_000


def shaken_hands(connection: socket.socket) -> None:
    connection.sendall(
        b"GET /v1/responses HTTP/1.1\r\n" + KEY + b"connection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert connection.recv(65536).startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize(
    "frames",
    [
        b"\x81\x02{}",
        b"\x83\x80\0\0\0\0",
        b"\xf1\x80\0\0\0\0",
        b"\x80\x80\0\0\0\0",
        b"\x89\xfe\x00\xff\0\0\0\0" + b"x" * 255,
        b"\x81\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0",
        b"\x81\x82\0\0\0\0\xff\xfe",
        PROBE,
    ],
    ids=[
        *("no mask", "no such opcode", "reserved bits", "no beginning", "a long ping"),
        *("exabytes", "no UTF-8", "HTTP"),
    ],
)
def test_frames_that_are_none_end_their_socket(server: RunningServer, frames: bytes) -> None:
    with connected(server) as connection:
        shaken_hands(connection)
        connection.sendall(frames)
        ended(connection)


def test_pings_and_pieces_without_end(server: RunningServer) -> None:
    before = resident_bytes(server)
    with connected(server) as connection:
        shaken_hands(connection)
        connection.sendall(b"\x89\x80\0\0\0\0" * 10_000)
        connection.sendall(b"\x01\xfe\xff\xff\0\0\0\0" + b" " * 65535)
        with pytest.raises(ConnectionError):
            flooded(connection, b"\x00\xfe\xff\xff\0\0\0\0" + b" " * 65535)
    assert resident_bytes(server) < before + 64_000_000


@pytest.mark.parametrize(
    "header",
    [b"sec-websocket-version: 12\r\n", b"sec-websocket-key: x\r\n", b"origin: http://x\r\n"],
)
def test_handshakes_without_a_key_open_no_socket(server: RunningServer, header: bytes) -> None:
    head = b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    rest = b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    name = header.partition(b":")[0]
    kept = b"".join(line for line in rest.splitlines(keepends=True) if not line.startswith(name))
    assert 400 <= status(server, head + kept + header + b"\r\n") < 500


@pytest.mark.parametrize(
    "text",
    [
        "a\r\nb",
        "\x1b[2J\x1b]0;x\x07",
        '{"level":"error"}\n{"logger":"inferflux"}',
        "\u2028\u0085\0",
    ],
)
def test_nobody_writes_the_log_of_others(server: RunningServer, text: str) -> None:
    """The fixture reads it to the end."""
    body = json.dumps({**ASK, "model": text, "user": text}).encode()
    assert chat(server, body, **{"user-agent": "x"}).status_code == 404
    with server.client() as client:
        for path in (f"/v1/models/{quote(text)}", f"/{quote(text)}", f"/v1/files/{quote(text)}"):
            assert client.get(path).status_code in (404, 405)


def test_the_server_says_nothing_about_itself(server: RunningServer) -> None:
    for request in (b"nonsense\r\n\r\n", b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n"):
        with connected(server) as connection:
            connection.sendall(request)
            response = answer(connection)
            said = response.read().lower()
        assert response.getheader("server") is None
        for word in (b"uvicorn", b"litestar", b"python", b"site-packages"):
            assert word not in said
