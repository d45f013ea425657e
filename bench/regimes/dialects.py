"""What each dialect costs: its streams beside OpenAI's chats, on a server without a model."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.client import Target
from bench.regimes.situation import Numbers, Situation, Surroundings
from bench.regimes.streams import ByteStream, connect
from bench.report import percentile

__all__ = ["DIALECTS"]

_USERS: Final = 32
_ROUNDS: Final = 3
# Less than the stub's line has: not every dialect can ask it to go on.
_TOKENS: Final = 128
_BODIES: Final = 50
_BODY_BYTES: Final = 200_000
_MESSAGES: Final[object] = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How a dialect asks for a stream.

    Attributes:
        proof: stands at the end of an answer that has all tokens.
    """

    name: str
    endpoint: str
    body: dict[str, object]
    proof: str
    headers: tuple[str, ...] = ()

    def request(self, target: Target) -> bytes:
        """The bytes to send."""
        return target.request({"stream": True, **self.body}, self.endpoint, self.headers)


_USAGE: Final = {"stream_options": {"include_usage": True}}
# Dialects have defaults of their own; what it costs to draw a token is not what is measured.
_GREEDY: Final = {"temperature": 0}
_LIMITED: Final = {"max_tokens": _TOKENS, **_GREEDY}
_OPTIONS: Final = {"options": {"num_predict": _TOKENS, **_GREEDY}}
_OPENAI: Final = _Dialect(
    "openai chat",
    "/v1/chat/completions",
    {"messages": _MESSAGES, **_LIMITED, **_USAGE},
    f'"completion_tokens":{_TOKENS}',
)
_OTHERS: Final = (
    _Dialect(
        "openai completions",
        "/v1/completions",
        {"prompt": "Hello", **_LIMITED, **_USAGE},
        f'"completion_tokens":{_TOKENS}',
    ),
    _Dialect(
        "openai responses",
        "/v1/responses",
        {"input": "Hello", "max_output_tokens": _TOKENS, **_GREEDY},
        f'"output_tokens":{_TOKENS}',
    ),
    _Dialect(
        "anthropic messages",
        "/v1/messages",
        {"messages": _MESSAGES, **_LIMITED},
        f'"output_tokens":{_TOKENS}',
        ("anthropic-version: 2023-06-01",),
    ),
    _Dialect(
        "ollama chat",
        "/api/chat",
        {"messages": _MESSAGES, **_OPTIONS},
        f'"eval_count":{_TOKENS}',
    ),
    _Dialect(
        "ollama generate",
        "/api/generate",
        {"prompt": "Hello", **_OPTIONS},
        f'"eval_count":{_TOKENS}',
    ),
    _Dialect(
        "lmstudio v0 chat",
        "/api/v0/chat/completions",
        {"messages": _MESSAGES, **_LIMITED},
        f'"completion_tokens":{_TOKENS}',
    ),
    _Dialect(
        "lmstudio v1 chat",
        "/api/v1/chat",
        {"input": "Hello", "max_output_tokens": _TOKENS, **_GREEDY},
        f'"total_output_tokens":{_TOKENS}',
    ),
)


async def _stage(around: Surroundings) -> Numbers:
    """Stream in every dialect, each time beside OpenAI's chats; `size` is the requests of a user."""
    target = around.server.spec.target
    streams = await connect(target, _USERS)
    try:
        for each in (_OPENAI, *_OTHERS):
            await _speed(streams, target, each, 1)
        cpu, started = time.process_time(), time.perf_counter()
        speeds: list[float] = []
        ratios: dict[str, list[float]] = {each.name: [] for each in _OTHERS}
        for turn in range(_ROUNDS):
            for each in _OTHERS:
                # Whoever goes first changes, so that a machine that drifts favours nobody.
                pair = (_OPENAI, each) if turn % 2 else (each, _OPENAI)
                speed = {d.name: await _speed(streams, target, d, around.size) for d in pair}
                speeds.append(speed[_OPENAI.name])
                ratios[each.name].append(speed[each.name] / speed[_OPENAI.name])
        client = (time.process_time() - cpu) / (time.perf_counter() - started)
        return {
            f"{_OPENAI.name}, tok/s": statistics.median(speeds),
            **{f"{n} / {_OPENAI.name}, tok/s": statistics.median(r) for n, r in ratios.items()},
            "client, share of a core": client,
            **await _large_bodies(streams[0], target),
        }
    finally:
        for stream in streams:
            stream.close()


async def _speed(
    streams: Sequence[ByteStream], target: Target, dialect: _Dialect, requests: int
) -> float:
    """Tokens per second of all users, from the first request to the end of the last answer."""
    request, proof = dialect.request(target), dialect.proof.encode()

    async def user(stream: ByteStream) -> None:
        for _ in range(requests):
            await stream.exchange(request, proof)

    started = time.perf_counter()
    await asyncio.gather(*map(user, streams))
    return len(streams) * requests * _TOKENS / (time.perf_counter() - started)


async def _large_bodies(stream: ByteStream, target: Target) -> Numbers:
    """Time to the end of an answer of one token, by what the request carries."""
    description = "x" * (_BODY_BYTES // 100)
    tools = [
        {"type": "function", "function": {"name": f"tool_{i}", "description": description}}
        for i in range(100)
    ]
    turns = [{"role": "user", "content": description} for _ in range(100)]
    asked: dict[str, dict[str, object]] = {
        "small body": {"messages": _MESSAGES},
        # Read and checked like all others, but not shown to the model.
        "large body of tools": {"messages": _MESSAGES, "tools": tools, "tool_choice": "none"},
        "large body of messages": {"messages": turns},
    }
    numbers = {}
    for name, body in asked.items():
        request = target.request({**body, "max_tokens": 1, "stream": True})
        waits = []
        for _ in range(_BODIES):
            started = time.perf_counter()
            await stream.exchange(request, b'"finish_reason":"length"')
            waits.append(1e3 * (time.perf_counter() - started))
        numbers[f"{name}, p50 ms"] = percentile(waits, 0.5)
    return numbers


DIALECTS = Situation(
    "dialects", "streams of each dialect beside OpenAI's chats, 32 users, stub backend", 16, _stage
)
