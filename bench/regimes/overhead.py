"""What everything around the model costs: a request with one token, and a token among many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from bench.client import Target
from bench.regimes.situation import Numbers, Situation, Surroundings
from bench.regimes.streams import ByteStream, connect
from bench.report import percentile

__all__ = ["OVERHEAD"]

_USERS: Final = 32
# Less than the stub's line has.
_TOKENS: Final = 128
_REQUESTS: Final = 16
_PAUSE: Final = 0.002


async def _stage(around: Surroundings) -> Numbers:
    """Ask for one token `size` times, then stream to 32 users at once."""
    target = around.server.spec.target
    streams = await connect(target, _USERS)
    try:
        await _streaming(streams, target, 2)
        waits = await _requests(streams[0], target, around.size)
        return {
            "request p50, ms": percentile(waits, 0.5),
            "request p99, ms": percentile(waits, 0.99),
            "streamed token, us": 1e6 * await _streaming(streams, target, _REQUESTS),
        }
    finally:
        for stream in streams:
            stream.close()


async def _requests(stream: ByteStream, target: Target, count: int) -> list[float]:
    """Milliseconds to the end of answers of one token, one request after another."""
    request, waits = _request(target, 1), []
    for _ in range(count):
        # What a server does after its answer is not this request's wait, nor the next one's.
        await asyncio.sleep(_PAUSE)
        started = time.perf_counter()
        await stream.exchange(request, _proof(1))
        waits.append(1e3 * (time.perf_counter() - started))
    return waits


async def _streaming(streams: Sequence[ByteStream], target: Target, requests: int) -> float:
    """Seconds per token of all users together."""
    request, proof = _request(target, _TOKENS), _proof(_TOKENS)

    async def user(stream: ByteStream) -> None:
        for _ in range(requests):
            await stream.exchange(request, proof)

    started = time.perf_counter()
    await asyncio.gather(*map(user, streams))
    return (time.perf_counter() - started) / (len(streams) * requests * _TOKENS)


def _request(target: Target, tokens: int) -> bytes:
    return target.request(
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


def _proof(tokens: int) -> bytes:
    return f'"completion_tokens":{tokens},'.encode()


OVERHEAD = Situation(
    "overhead", "requests of one token, and streams to 32 users, stub backend", 1000, _stage
)
