"""A streaming HTTP client that costs next to nothing.

On a small machine the client takes its processor time from the server it measures, so this one
parses in C (httptools, msgspec), reads the clock once per packet and keeps one connection per user.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from bench import BenchError

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
            raise BenchError(f"{self.url!r} is not a http:// or https:// address")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if self.secure else 80)

    @property
    def secure(self) -> bool:
        """Whether to speak TLS."""
        return urlsplit(self.url).scheme == "https"

    def request(
        self,
        body: dict[str, object],
        endpoint: str = "/v1/chat/completions",
        headers: Sequence[str] = (),
    ) -> bytes:
        """The bytes of a request: by default for a chat completion."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/").removesuffix("/v1") + endpoint
        payload = msgspec.json.encode({"model": self.model, **body})
        head = [
            f"POST {path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Content-Type: application/json",
            f"Content-Length: {len(payload)}",
            *headers,
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
    prompt_tokens: int
    completion_tokens: int


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    error: object = None


class Connection:
    """One simulated user's keep-alive connection; opened again when the server closes it."""

    def __init__(self, target: Target, *, keep_text: bool = False) -> None:
        self._target = target
        self._keep_text = keep_text
        self._wire: _Wire | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._wire is not None:
            self._wire.close()

    async def send(self, request: bytes, timeout: float) -> Answer:  # noqa: ASYNC109
        """Send a request and wait for the end of its answer. Failures are in `Answer.error`."""
        answer = Answer(time.perf_counter())
        try:
            async with asyncio.timeout(timeout):
                reused = self._wire is not None and self._wire.is_open
                wire = await self._open()
                await wire.exchange(request, answer)
                # Some servers announce keep-alive and close after a stream all the same. What they
                # never began to answer may be sent again, as browsers do.
                if reused and wire.was_dropped:
                    wire = await self._open()
                    await wire.exchange(request, answer)
        except TimeoutError:
            answer.error = f"no complete answer in {timeout:g} s"
        except OSError as error:
            answer.error = f"{type(error).__name__}: {error}"
        if answer.error and self._wire is not None:
            self._wire.close()
        answer.finished = answer.finished or time.perf_counter()
        return answer

    async def _open(self) -> _Wire:
        if self._wire is not None and self._wire.is_open:
            return self._wire
        host, port = self._target.address
        ssl = True if self._target.secure else None
        loop = asyncio.get_running_loop()
        _, self._wire = await loop.create_connection(
            lambda: _Wire(keep_text=self._keep_text), host, port, ssl=ssl
        )
        return self._wire


class _Wire(asyncio.Protocol):
    """One TCP connection, and the parser of what it brings."""

    def __init__(self, *, keep_text: bool) -> None:
        self.is_open = False
        self._heard = False
        self._keep_text = keep_text
        self._decoder = msgspec.json.Decoder(_Chunk)
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._answer = Answer(0.0)
        self._now = 0.0
        self._tail = b""
        self._ended = False
        self._counted = False

    async def exchange(self, request: bytes, answer: Answer) -> None:
        """Send a request and fill in its answer."""
        assert self._transport is not None
        self._answer, self._tail = answer, b""
        self._ended = self._counted = self._heard = False
        self._done = asyncio.get_running_loop().create_future()
        answer.started = time.perf_counter()
        self._transport.write(request)
        await self._done

    @property
    def was_dropped(self) -> bool:
        """Whether the server closed the connection instead of beginning an answer."""
        return not (self.is_open or self._heard)

    def close(self) -> None:
        """Drop the connection."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; all of it counts as received now."""
        self._now = time.perf_counter()
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._resolve(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed the connection, which is an error only inside an answer."""
        self.is_open = False
        self._resolve(f"connection lost: {exc or 'closed by the server'}")

    # httptools

    def on_body(self, body: bytes) -> None:
        """A piece of the answer, cut anywhere."""
        if self._parser.get_status_code() != 200:
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
        if not self._parser.should_keep_alive():
            self.close()
        if status != 200:
            self._resolve(f"HTTP {status}: {self._tail.decode(errors='replace')}")
        else:
            # Some servers leave out [DONE]; what says why it ended has ended.
            ended = self._ended or self._answer.finish_reason is not None
            self._resolve("" if ended else "the stream ended without finish_reason or [DONE]")

    def _resolve(self, error: str) -> None:
        if self._done is None or self._done.done():
            return
        answer = self._answer
        answer.error = error
        if not self._counted:
            answer.completion_tokens = answer.events
        self._done.set_result(None)

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
            self._resolve(f"error event: {msgspec.json.encode(chunk.error).decode()}")
            return
        if chunk.usage is not None:
            self._answer.completion_tokens = chunk.usage.completion_tokens
            self._answer.prompt_tokens = chunk.usage.prompt_tokens
            self._counted = True
        for choice in chunk.choices:
            self._on_choice(choice)

    def _on_choice(self, choice: _Choice) -> None:
        answer = self._answer
        answer.finish_reason = choice.finish_reason or answer.finish_reason
        text = choice.delta and (choice.delta.content or choice.delta.reasoning_content)
        if text:
            answer.stamps.append(self._now)
            if self._keep_text:
                answer.text += text
