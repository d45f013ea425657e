"""Answers that mostly repeat what stands in the prompt."""

from __future__ import annotations

import json

from bench.prompts import text
from bench.regimes.situation import Message, Numbers, Situation, Surroundings, send

__all__ = ["REPETITION"]

_ANSWER_TOKENS = 192


async def _stage(around: Surroundings) -> Numbers:
    """Copy, edit and continue JSON, one request after another."""
    target = around.server.spec.target
    tokens, seconds = 0, 0.0
    for repeat in range(around.size):
        for task in _tasks(f"repetition {around.seed}/{repeat}"):
            answer = await send(target, task, _ANSWER_TOKENS)
            tokens += answer.completion_tokens
            seconds += answer.finished - answer.started
    return {"output tok/s": tokens / seconds}


def _tasks(seed: str) -> list[list[Message]]:
    passage = text(90, seed)
    records = json.dumps(
        [
            {"id": number, "name": text(2, f"{seed}/{number}"), "active": True, "tags": ["a", "b"]}
            for number in range(8)
        ],
        indent=1,
    )
    program = "\n".join(
        f"def get_{word.lower().strip('.')}(record):\n    return record['{word.lower()}']\n"
        for word in passage.split()[:8]
    )
    return [
        [{"role": "user", "content": f"Repeat this text word for word:\n\n{passage}"}],
        [{"role": "user", "content": f"Copy this JSON and set active to false:\n\n{records}"}],
        [{"role": "user", "content": f"Add a docstring to every function:\n\n{program}"}],
    ]


REPETITION = Situation("repetition", "copying, editing and JSON, one user", 2, _stage)
