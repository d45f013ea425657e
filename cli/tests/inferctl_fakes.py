"""A scripted server on the loopback and ways to run the real client against it."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

PATIENCE = 20.0

# A step of a streamed body: bytes to send, an event to wait for, or None: wait for the client
# to go away.
Step = bytes | threading.Event | None


def sse(value: object) -> bytes:
    """Frame one event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chat_chunk(content: str | None = None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def call_chunk(index: int, **fields: Any) -> dict[str, Any]:
    """A piece of a tool call; `name` and `arguments` belong to its function."""
    function = {key: fields.pop(key) for key in ("name", "arguments") if key in fields}
    call = {"index": index, **fields, "function": function}
    choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def ndjson(*values: object) -> list[Step]:
    """Return the steps of a stream of JSON lines."""
    return [json.dumps(value).encode() + b"\n" for value in values]


def text_chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return {"id": "t1", "object": "text_completion", "model": "m", "choices": [choice]}


DONE = b"data: [DONE]\n\n"


def chat_stream(*contents: str, finish: str = "stop") -> list[Step]:
    """Return the steps of a whole streamed chat answer."""
    return [*(sse(chat_chunk(c)) for c in contents), sse(chat_chunk(finish=finish)), DONE]


@dataclass
class Seen:
    """A request as the server received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """What to answer: a body in steps, chunked when `stream`."""

    status: int
    headers: dict[str, str]
    steps: list[Step]
    stream: bool = False


class FakeServer:
    """Answers each route with its queued replies in turn; the last one is repeated."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.asked = threading.Event()
        self.disconnected = threading.Event()
        self._replies: defaultdict[str, deque[Reply]] = defaultdict(deque)
        self._http = _HttpServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        self.json("/v1/models", {"object": "list", "data": [{"id": "m", "owned_by": "me"}]})

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def json(self, path: str, value: object, status: int = 200, **headers: str) -> None:
        """Queue a JSON answer; underscores in header names stand for hyphens."""
        self.raw(path, json.dumps(value).encode(), "application/json", status, **headers)

    def raw(
        self, path: str, body: bytes, kind: str = "text/plain", status: int = 200, **headers: str
    ) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._replies[path].append(Reply(status, {"Content-Type": kind, **named}, [body]))

    def error(self, path: str, status: int, code: str, message: str, **headers: str) -> None:
        error = {"message": message, "type": "error", "param": None, "code": code}
        self.json(path, {"error": error}, status, **headers)

    def stream(self, path: str, *steps: Step, kind: str = "text/event-stream") -> None:
        """Queue a chunked stream; of events, unless it is of another kind."""
        headers = {"Content-Type": kind}
        self._replies[path].append(Reply(200, headers, list(steps), stream=True))

    def bodies(self, path: str, method: str = "POST") -> list[Any]:
        """Return what clients posted to `path`."""
        return [r.body for r in self.requests if r.path == path and r.method == method]

    def reply_to(self, path: str) -> Reply:
        queue = self._replies[path]
        if not queue:
            return Reply(404, {}, [b"no such route"])
        # The default model list gives way to one that a test queued after it.
        return queue.popleft() if len(queue) > 1 and path != "/v1/models" else queue[-1]


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, fake: FakeServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fake = fake

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that closes its connection at once is none; the usual way writes to the tests' stderr."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_form = self.headers["Content-Type"] == "application/x-www-form-urlencoded"
        self._serve(parse_qs(body.decode()) if is_form else json.loads(body))

    def do_DELETE(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._serve(json.loads(self.rfile.read(length)) if length else None)

    def _serve(self, body: Any) -> None:
        headers = {k.lower(): v for k, v in self.headers.items()}
        fake = self.server.fake
        fake.requests.append(Seen(self.command, self.path, headers, body))
        reply = fake.reply_to(self.path)
        if self.command == "POST":
            fake.asked.set()
        try:
            self._send(reply)
        except TimeoutError:
            self.close_connection = True
        except OSError:
            fake.disconnected.set()
            self.close_connection = True

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if not reply.stream:
            (body,) = reply.steps
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for step in reply.steps:
            self._step(step)
        self.wfile.write(b"0\r\n\r\n")

    def _step(self, step: Step) -> None:
        if isinstance(step, threading.Event):
            step.wait(PATIENCE)
        elif step is None:
            self.connection.settimeout(PATIENCE)
            if self.connection.recv(1, socket.MSG_PEEK) == b"":
                raise ConnectionResetError
        else:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(step), step))

    def log_message(self, *_: Any) -> None:
        pass


@dataclass
class Finished:
    """What a run of the client left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Return stdout read as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        """Return the one error that stderr holds as JSON."""
        (line,) = self.err.splitlines()
        return json.loads(line)["error"]


_AT_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from inferflux_cli.main import main
main()
"""
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])")


class Terminal:
    """The client on a pseudo-terminal of its own, which is its controlling one."""

    def __init__(self, *arguments: str, env: dict[str, str], stdout: int | None = None) -> None:
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_TERMINAL, *arguments],
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            env={**env, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            start_new_session=True,
        )
        os.close(slave)
        self.raw = ""
        self._position = 0

    @property
    def screen(self) -> str:
        """Return all output so far without its escape sequences."""
        return _ESCAPES.sub("", self.raw)

    def expect(self, text: str) -> str:
        """Wait for `text` after what was expected before; return what came up to it."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.screen.find(text, self._position)) < 0:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} not in {self.screen[self._position :]!r}")
        before = self.screen[self._position : found]
        self._position = found + len(text)
        return before

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait(self) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)
