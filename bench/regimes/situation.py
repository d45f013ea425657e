"""What every situation has in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from bench import BenchError
from bench.client import Answer, Connection, Target
from bench.prompts import Calibration
from bench.servers import RunningServer

__all__ = ["Message", "Numbers", "Situation", "Surroundings", "send", "together"]

Message = dict[str, str]
Numbers = dict[str, float]
"""What was measured, by name; lower is better unless the name ends in `tok/s`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a situation is staged.

    Attributes:
        server: just started, and idle.
        calibration: of the model's tokenizer.
        seed: differs from run to run, so that no server answers from what it kept of another run.
        size: how much to stage, in the situation's own unit.
        restart: end the server and start it again, with the same command.
    """

    server: RunningServer
    calibration: Calibration
    seed: int
    size: int
    restart: Callable[[], Awaitable[RunningServer]]


@dataclass(frozen=True, slots=True)
class Situation:
    """A situation by name: its `stage` returns what was measured; `size` is the default size."""

    name: str
    summary: str
    size: int
    stage: Callable[[Surroundings], Awaitable[Numbers]]


async def send(
    target: Target, messages: list[Message], output_tokens: int, *, keep_text: bool = False
) -> Answer:
    """Stream one greedy answer of exactly `output_tokens` tokens on a connection of its own.

    Raises:
        BenchError: it failed.
    """
    body: dict[str, object] = {
        "messages": messages,
        "max_tokens": output_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    async with Connection(target, keep_text=keep_text) as connection:
        answer = await connection.send(target.request(body), 600.0)
    if answer.error or not answer.stamps:
        raise BenchError(f"{target.name} failed: {answer.error or 'no text came'}")
    return answer


async def together(requests: Iterable[Awaitable[Answer]]) -> list[Answer]:
    """Wait for all answers.

    Raises:
        BenchError: one failed.
    """
    return list(await asyncio.gather(*requests))
