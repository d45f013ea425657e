"""A streaming HTTP client that costs next to nothing.

On a small machine the client takes its processor time from the server it measures, so this one
parses in C (httptools, msgspec), reads the clock once per packet and keeps one connection per user.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import httptools
import msgspec

__all__ = ["Answer", "Connection", "Target"]

_ERROR_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class Target:
    """A server to measure. `url` may or may not end in `/v1`."""

    name: str
    url: str
    api_key: str = ""
    model: str = "default"

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{self.url!r} is not a http:// or https:// address")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if self.secure else 80)

    @property
    def secure(self) -> bool:
        """Whether to speak TLS."""
        return urlsplit(self.url).scheme == "https"

    def request(self, body: dict[str, object]) -> bytes:
        """The bytes of a chat completion request."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        payload = msgspec.json.encode({"model": self.model, **body})
        head = [
            f"POST {path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Content-Type: application/json",
            f"Content-Length: {len(payload)}",
        ]
        if self.api_key:
            head.append(f"Authorization: Bearer {self.api_key}")
        return "\r\n".join([*head, "", ""]).encode() + payload


@dataclass(slots=True)
class Answer:
    """What one request brought.

    Attributes:
        started: clock when the request was sent, in seconds.
        stamps: clock at each event that carried text.
        finished: clock at the end of the answer.
        events: events that carried text.
        completion_tokens: as the server's usage has it, else `events`.
        prompt_tokens: as the server's usage has it, else None.
        finish_reason: of the first choice.
        text: all text, if it was asked for.
        error: why the request failed, or "".
    """

    started: float
    stamps: list[float] = field(default_factory=list)
    finished: float = 0.0
    completion_tokens: int = 0
    prompt_tokens: int | None = None
    finish_reason: str | None = None
    text: str = ""
    status: int = 0
    error: str = ""

    @property
    def events(self) -> int:
        """Events that carried text."""
        return len(self.stamps)


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    error: msgspec.Raw | None = None


class Connection(asyncio.Protocol):
    """One keep-alive connection, used by one simulated user. Reconnects when the server closes it."""

    def __init__(self, target: Target, *, keep_text: bool = False) -> None:
        self._target = target
        self._keep_text = keep_text
        self._decoder = msgspec.json.Decoder(_Chunk)
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._done: asyncio.Future[None] | None = None
        self._answer = Answer(0.0)
        self._usage: int | None = None
        self._tail = b""
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def send(self, request: bytes, timeout: float) -> Answer:  # noqa: ASYNC109
        """Send a request and wait for the end of its answer. Failures are in `Answer.error`."""
        self._answer, self._usage, self._tail, self._ended = Answer(0.0), None, b"", False
        try:
            async with asyncio.timeout(timeout):
                transport = self._transport or await self._connect()
                self._done = asyncio.get_running_loop().create_future()
                self._answer.started = time.perf_counter()
                transport.write(request)
                await self._done
        except TimeoutError:
            self._fail(f"no complete answer in {timeout:g} s")
        except OSError as error:
            self._fail(f"{type(error).__name__}: {error}")
        finally:
            self._done = None
        return self._finish()

    async def _connect(self) -> asyncio.Transport:
        host, port = self._target.address
        ssl = True if self._target.secure else None
        loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        transport, _ = await loop.create_connection(lambda: self, host, port, ssl=ssl)
        self._transport = transport
        return transport

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _fail(self, error: str) -> None:
        self._answer.error = self._answer.error or error
        self._close()

    def _finish(self) -> Answer:
        answer = self._answer
        answer.finished = answer.finished or time.perf_counter()
        answer.completion_tokens = answer.events if self._usage is None else self._usage
        if not answer.error and not self._ended:
            answer.error = "the stream ended without [DONE]"
        return answer

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; all of it counts as received now."""
        self._now = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._resolve(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed the connection, which is an error only inside an answer."""
        self._transport = None
        self._resolve(f"connection lost: {exc or 'closed by the server'}")

    # httptools

    def on_body(self, body: bytes) -> None:
        """A piece of the answer, cut anywhere."""
        status = self._parser.get_status_code()
        if status != 200:
            self._tail = (self._tail + body)[:_ERROR_BYTES]
            return
        *lines, self._tail = (self._tail + body).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._on_event(line[5:].strip())

    def on_message_complete(self) -> None:
        """The end of the answer."""
        self._answer.finished = self._now
        self._answer.status = status = self._parser.get_status_code()
        error = "" if status == 200 else f"HTTP {status}: {self._tail.decode(errors='replace')}"
        if not self._parser.should_keep_alive():
            self._close()
        self._resolve(error)

    def _resolve(self, error: str) -> None:
        if self._done is not None and not self._done.done():
            self._answer.error = self._answer.error or error
            self._done.set_result(None)
            if error:
                self._close()

    def _on_event(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self._ended = True
            return
        try:
            chunk = self._decoder.decode(payload)
        except msgspec.MsgspecError as error:
            self._resolve(f"bad event: {error}")
            return
        if chunk.error is not None:
            self._resolve(f"error event: {bytes(chunk.error).decode(errors='replace')}")
            return
        if chunk.usage is not None:
            self._usage = chunk.usage.completion_tokens
            self._answer.prompt_tokens = chunk.usage.prompt_tokens
        for choice in chunk.choices:
            self._on_choice(choice)

    def _on_choice(self, choice: _Choice) -> None:
        answer = self._answer
        answer.finish_reason = choice.finish_reason or answer.finish_reason
        if choice.delta is None:
            return
        text = choice.delta.content or choice.delta.reasoning_content
        if text:
            answer.stamps.append(self._now)
            if self._keep_text:
                answer.text += text
