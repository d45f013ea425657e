"""A chat completion server of canned answers. As a program: `fake_server.py PORT [MODE]`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


def event(payload: dict[str, Any], end: str = "\n") -> bytes:
    return f"data: {json.dumps(payload)}{end}{end}".encode()


def token(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


@dataclass
class FakeServer:
    """Streams as many tokens as are asked for.

    Attributes:
        cut: bytes per HTTP chunk; 0 sends each event in one.
        newline: of the event stream.
        mode: "good", or how to fail: "status", "error", "error-later" (all but the first answer),
            "hang-up", "cut" (no finish_reason), "no-done", "garbage", "silent".
        missing: tokens it sends too few.
        usage: whether it reports usage.
        merge: tokens in one event.
        close: whether it closes the connection after an answer: "", "announced" or "silently".
    """

    cut: int = 0
    newline: str = "\n"
    mode: str = "good"
    missing: int = 0
    usage: bool = True
    merge: int = 1
    close: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    served: int = 0
    busy: int = 0
    most_busy: int = 0

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length:")[1].split()[0])
                body = json.loads(await reader.readexactly(length))
                self.heads.append(head)
                self.bodies.append(body)
                self.busy += 1
                self.most_busy = max(self.most_busy, self.busy)
                await asyncio.sleep(0)
                await self._answer(body, writer)
                self.busy -= 1
                if self.close == "announced":
                    await reader.read()  # it is up to the client to leave
                if self.close or self.mode == "hang-up":
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if self.mode == "silent":
            await asyncio.Event().wait()
        if self.mode == "status":
            reply = b'{"error":{"message":"overloaded"}}'
            writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n" % len(reply) + reply)
            return
        closing = b"Connection: close\r\n" if self.close == "announced" else b""
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + closing + b"\r\n")
        for piece in self._pieces(body):
            for at in range(0, len(piece), self.cut or len(piece)):
                part = piece[at : at + (self.cut or len(piece))]
                writer.write(b"%x\r\n" % len(part) + part + b"\r\n")
                await writer.drain()
        if self.mode != "hang-up":
            writer.write(b"0\r\n\r\n")

    def _pieces(self, body: dict[str, Any]) -> list[bytes]:
        self.served += 1
        count = body["max_tokens"] - self.missing
        words = ["é "] * count
        texts = ["".join(words[at : at + self.merge]) for at in range(0, count, self.merge)]
        end = self.newline
        role = {"choices": [{"delta": {"role": "assistant", "content": None}}]}
        pieces = [event(role, end), f": ping{end}{end}".encode()]
        pieces += [event(token(text), end) for text in texts]
        if self.mode == "hang-up":
            return pieces
        if self.mode == "error" or (self.mode == "error-later" and self.served > 1):
            return [*pieces, event({"error": {"message": "engine died"}}, end)]
        if self.mode == "garbage":
            return [*pieces, b"data: {not json\n\n"]
        if self.mode == "cut":
            return pieces
        pieces.append(event({"choices": [{"delta": {}, "finish_reason": "length"}]}, end))
        if self.usage:
            prompt_tokens = 10 + 2 * len(body["messages"][0]["content"].split())
            usage = {"prompt_tokens": prompt_tokens, "completion_tokens": count}
            pieces.append(event({"choices": [], "usage": usage}, end))
        if self.mode == "no-done":
            return pieces
        return [*pieces, f"data: [DONE]{end}{end}".encode()]


async def _main(port: int, mode: str) -> None:
    if mode == "crash":
        print("cannot find the model")
        sys.exit(3)
    async with FakeServer(mode=mode).serve(port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "good"))
