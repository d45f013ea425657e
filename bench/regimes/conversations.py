"""Conversations that go on while others do."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque

from bench.prompts import text
from bench.regimes.situation import Message, Numbers, Situation, Surroundings, send
from bench.report import percentile

__all__ = ["CONVERSATIONS"]

_USERS = 8
_TURNS = 5
_SYSTEM_PROMPTS = 20
_SYSTEM_TOKENS = 200
_QUESTION_TOKENS = 40
_ANSWER_TOKENS = 16


async def _stage(around: Surroundings) -> Numbers:
    """Take a turn in every conversation, then the next turn in every one, eight at a time."""
    target, words = around.server.spec.target, around.calibration.words
    systems = itertools.cycle(
        text(words(_SYSTEM_TOKENS), f"system {around.seed}/{i}") for i in range(_SYSTEM_PROMPTS)
    )
    histories: list[list[Message]] = [
        [{"role": "system", "content": next(systems)}] for _ in range(around.size)
    ]
    turns = deque((turn, at) for turn in range(_TURNS) for at in range(around.size))
    locks = [asyncio.Lock() for _ in histories]
    first: list[float] = []
    later: list[float] = []

    async def user() -> None:
        while turns:
            turn, at = turns.popleft()
            async with locks[at]:
                question = text(words(_QUESTION_TOKENS), f"{around.seed}/{at}/{turn}")
                histories[at].append({"role": "user", "content": question})
                answer = await send(target, histories[at], _ANSWER_TOKENS, keep_text=True)
                histories[at].append({"role": "assistant", "content": answer.text})
            (later if turn else first).append(1e3 * (answer.stamps[0] - answer.started))

    async with asyncio.TaskGroup() as group:
        for _ in range(_USERS):
            group.create_task(user())
    return {
        "TTFT p50 of turns 2-5 ms": percentile(later, 0.5),
        "TTFT p99 of turns 2-5 ms": percentile(later, 0.99),
        "TTFT p50 of turn 1 ms": percentile(first, 0.5),
    }


CONVERSATIONS = Situation(
    "conversations", "conversations of 5 turns, 20 system prompts, 8 users", 200, _stage
)
