"""Copies of the records: what arrives, in which form, and what happens when nobody takes them."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from inferflux_api.governance.audit import AuditLog
from inferflux_api.governance.audit.records import GENESIS, Entry, Record, seal
from inferflux_api.governance.audit.sinks.courier import Courier
from inferflux_api.governance.audit.sinks.sink import SinkUnavailableError
from inferflux_api.governance.audit.sinks.syslog import SyslogSink
from inferflux_api.observability.metrics import Metrics
from inferflux_core.auth import Principal
from inferflux_core.config.schema import AuditConfig, AuditSinkConfig
from inferflux_core.errors import AuthenticationError, ConfigError

ALICE = Principal("alice", frozenset({"generate"}), tenant="acme")
RFC5424 = re.compile(
    r"<(?P<priority>\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ inferflux \d+ (?P<id>\S+) - "
)


def entry(number: int, text: str = "") -> Entry:
    record = Record(seq=number, time=time.time(), event="received", prev=GENESIS, model=text)
    return seal(record)


class Collector(BaseHTTPRequestHandler):
    """Keeps what is posted, and answers with what is next on its list."""

    answers: list[tuple[int, bytes]]
    posts: list[tuple[dict[str, str], bytes]]
    came: threading.Condition

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status, answer = self.answers.pop(0) if self.answers else (200, b"{}")
        # Before the answer, after which the test may look.
        with self.came:
            self.posts.append((dict(self.headers.items()), body))
            self.came.notify_all()
        self.send_response(status)
        self.send_header("retry-after", "0")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, type[Collector]]]:
    state = {"answers": [], "posts": [], "came": threading.Condition()}
    handler = type("Handler", (Collector,), state)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/logs", handler
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def opened(tmp_path: Path, sink: AuditSinkConfig) -> Iterator[tuple[AuditLog, Metrics]]:
    metrics = Metrics(lambda: ())
    log = AuditLog(AuditConfig(path=str(tmp_path / "audit.jsonl"), sinks=[sink]), metrics)
    try:
        yield log, metrics
    finally:
        log.close()


def lines(tmp_path: Path) -> list[bytes]:
    return (tmp_path / "audit.jsonl").read_bytes().splitlines()


def test_a_webhook_gets_every_record_even_after_failures(
    tmp_path: Path, collector: tuple[str, type[Collector]]
) -> None:
    url, handler = collector
    handler.answers += [(503, b""), (500, b"")]
    sink = AuditSinkConfig(type="webhook", url=url, headers={"authorization": "Bearer t"})
    with opened(tmp_path, sink) as (log, metrics):
        log.received("r1", ALICE, "m")
        log.completed("r1", ALICE, "m", outcome="stop", prompt_tokens=1, completion_tokens=2)
    taken = handler.posts[2:]
    assert b"".join(body for _, body in taken).splitlines() == lines(tmp_path)
    assert {headers["authorization"] for headers, _ in taken} == {"Bearer t"}
    assert {headers["content-type"] for headers, _ in taken} == {"application/x-ndjson"}
    assert b"inferflux_audit_dropped_total" in metrics.render()
    assert b'inferflux_audit_dropped_total{sink="0-webhook"} 0.0' in metrics.render()


def test_opentelemetry_gets_log_records(
    tmp_path: Path, collector: tuple[str, type[Collector]]
) -> None:
    url, handler = collector
    with opened(tmp_path, AuditSinkConfig(type="otlp", url=url)) as (log, _):
        log.refusal(AuthenticationError("no"))
    requests = [json.loads(body) for _, body in handler.posts]
    found = [
        record
        for request in requests
        for resource in request["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]
    assert [r["body"]["stringValue"].encode() for r in found] == lines(tmp_path)
    refused = found[2]
    assert (refused["eventName"], refused["severityNumber"]) == ("inferflux.audit.refused", 13)
    stated = json.loads(lines(tmp_path)[2])["time"]
    assert int(refused["timeUnixNano"]) / 1e9 == pytest.approx(stated)


@pytest.mark.parametrize(
    ("answer", "dropped"),
    [
        ((400, b"no"), 2),
        ((200, b'{"partialSuccess": {"rejectedLogRecords": "1"}}'), 1),
        ((200, b"what?"), 0),
    ],
)
def test_what_a_collector_will_never_take_is_counted_and_recorded(
    tmp_path: Path,
    collector: tuple[str, type[Collector]],
    answer: tuple[int, bytes],
    dropped: int,
) -> None:
    url, handler = collector
    handler.answers.append(answer)
    with opened(tmp_path, AuditSinkConfig(type="otlp", url=url)) as (_, metrics):
        with handler.came:
            assert handler.came.wait_for(lambda: handler.posts, timeout=10)
        count = json.loads(handler.posts[0][1])
        sent = len(count["resourceLogs"][0]["scopeLogs"][0]["logRecords"])
        expected = sent if dropped == 2 else dropped
        deadline = time.monotonic() + 10
        while f'{{sink="0-otlp"}} {expected}.0'.encode() not in metrics.render():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    noted = [json.loads(line) for line in lines(tmp_path)]
    found = [(r["count"], r["detail"]) for r in noted if r["event"] == "dropped"]
    assert found == ([(expected, "0-otlp")] if expected else [])


@pytest.mark.parametrize("scheme", ["udp", "unix"])
def test_syslog_datagrams(tmp_path: Path, scheme: str) -> None:
    family = socket.AF_INET if scheme == "udp" else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(10)
        receiver.bind(("127.0.0.1", 0) if scheme == "udp" else str(tmp_path / "log"))
        place = f"127.0.0.1:{receiver.getsockname()[1]}" if scheme == "udp" else tmp_path / "log"
        sink = AuditSinkConfig(type="syslog", url=f"{scheme}://{place}")
        with opened(tmp_path, sink) as (log, _):
            log.refusal(AuthenticationError("no"))
        messages = [receiver.recv(65536).decode() for _ in lines(tmp_path)]
    heads = [RFC5424.match(message) for message in messages]
    bodies = [m[head.end() :].encode() for m, head in zip(messages, heads, strict=True) if head]
    assert bodies == lines(tmp_path)
    assert [(head["id"], head["priority"]) for head in heads if head][2] == ("refused", "108")


def test_syslog_over_tcp_counts_octets_and_connects_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        sink = SyslogSink(f"tcp://127.0.0.1:{listener.getsockname()[1]}", timeout=5)
        sent = [entry(1, "é"), entry(2)]
        for _ in range(2):
            assert sink.send(sent) == 0
            connection, _ = listener.accept()
            sink.close()
            with connection:
                data = connection.makefile("rb").read()
            for one in sent:
                length, _, data = data.partition(b" ")
                message, data = data[: int(length)], data[int(length) :]
                assert message.endswith(one.line)
            assert data == b""


def test_a_record_too_long_for_a_datagram_is_dropped_alone() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        sink = SyslogSink(f"udp://127.0.0.1:{receiver.getsockname()[1]}", timeout=5)
        assert sink.send([entry(1, "x" * 70_000), entry(2)]) == 1
        assert b'"seq":2' in receiver.recv(65536)
        sink.close()


@pytest.mark.parametrize("url", ["udp://", "udp://:514", "tcp://h:99999", "unix://"])
def test_an_address_that_names_no_place(url: str) -> None:
    with pytest.raises(ConfigError, match=r"audit\.sinks"):
        SyslogSink(url, timeout=1)


class Fake:
    """A sink that does what it is told, call by call."""

    def __init__(self, *steps: Callable[[], int]) -> None:
        self._steps = list(steps)
        self.taken: list[int] = []
        self.closed = False

    def send(self, entries: Sequence[Entry]) -> int:
        refused = self._steps.pop(0)() if self._steps else 0
        self.taken += [e.record.seq for e in entries]
        return refused

    def close(self) -> None:
        self.closed = True


def refuse() -> int:
    raise SinkUnavailableError(0.01)


def fail() -> int:
    raise ValueError("a defect")


def test_a_courier_keeps_the_order_and_tries_again() -> None:
    sink, drops = Fake(refuse, refuse), list[float]()
    courier = Courier("s", sink, 100, drops.append)
    for number in range(10):
        courier.offer(entry(number))
    courier.start()
    courier.end()
    courier.join(10)
    assert (sink.taken, drops, sink.closed) == ([*range(10)], [], True)


def test_a_full_queue_drops_what_is_new_and_nobody_waits() -> None:
    release, drops = threading.Event(), list[float]()

    def block() -> int:
        release.wait(10)
        return 0

    sink = Fake(block)
    courier = Courier("s", sink, 5, drops.append)
    courier.offer(entry(0))
    courier.start()
    started = time.perf_counter()
    for number in range(1, 1000):
        courier.offer(entry(number))
    assert time.perf_counter() - started < 1
    release.set()
    courier.end()
    courier.join(10)
    assert sink.taken == [*range(5)]
    assert sum(drops) == courier.take_dropped() == 995


def test_memory_is_bounded_too() -> None:
    drops = list[float]()
    courier = Courier("s", Fake(), 1000, drops.append)
    for number in range(10):
        courier.offer(entry(number, "x" * 10_000_000))
    assert sum(drops) == 4


def test_a_defect_of_a_sink_costs_its_batch_only() -> None:
    sink, drops = Fake(fail), list[float]()
    courier = Courier("s", sink, 100, drops.append)
    courier.offer(entry(1))
    courier.start()
    deadline = time.monotonic() + 10
    while not drops:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    courier.offer(entry(2))
    courier.end()
    courier.join(10)
    assert (drops, sink.taken) == ([1], [2])


def test_a_sink_that_is_gone_does_not_keep_the_server_from_ending() -> None:
    def gone() -> int:
        raise ConnectionRefusedError

    drops = list[float]()
    courier = Courier("s", Fake(*[gone] * 1000), 100, drops.append)
    courier.offer(entry(1))
    courier.start()
    started = time.monotonic()
    courier.end()
    courier.join(10)
    assert time.monotonic() - started < 5
    assert drops == [1]
