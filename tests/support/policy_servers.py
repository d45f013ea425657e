"""A policy server on the loopback interface that answers as a test wants it to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import regopy

Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


@dataclass
class PolicyServer:
    """What was asked, and what to answer."""

    url: str
    answer: Answer
    questions: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    gate: Event = field(default_factory=Event)

    def says(self, document: Any, status: int = 200) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answer = lambda _: (status, body)

    def hangs(self) -> None:
        def answer(_: dict[str, Any]) -> tuple[int, bytes]:
            self.gate.wait(10)
            return 200, b'{"result": true}'

        self.answer = answer


@contextmanager
def policy_server() -> Iterator[PolicyServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            question = json.loads(body)
            policy.questions.append(question)
            policy.bodies.append(body)
            policy.headers.append({name.lower(): text for name, text in self.headers.items()})
            status, answer = policy.answer(question)
            self.send_response(status)
            if status in (301, 307):
                self.send_header("location", policy.url + "/elsewhere")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    policy = PolicyServer(
        f"http://127.0.0.1:{server.server_port}/v1/data/inferflux/decision", rego(POLICY)
    )
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield policy
    finally:
        policy.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


POLICY = """
package inferflux

decision := {"allow": false, "reason": "codename"} if contains(lower(input.text), "swordfish")
else := {"allow": true} if input.tenant in {"acme", "default"}
"""
"""Everybody else's texts are undefined."""


def rego(policy: str) -> Answer:
    """OPA's data API over a real evaluator of Rego."""

    def answer(question: dict[str, Any]) -> tuple[int, bytes]:
        interpreter = regopy.Interpreter()
        interpreter.add_module("policy", policy)
        interpreter.set_input(question["input"])
        found = str(interpreter.query("x = data.inferflux.decision"))
        if found == "undefined":
            return 200, b"{}"
        return 200, json.dumps({"result": json.loads(found)["bindings"]["x"]}).encode()

    return answer
