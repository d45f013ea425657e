"""Many requests at once with one long system prompt, on a server that has never seen it."""

from __future__ import annotations

from bench.prompts import text
from bench.regimes.situation import Numbers, Situation, Surroundings, send, together

__all__ = ["BURST"]

_SYSTEM_TOKENS = 1000
_QUESTION_TOKENS = 40
_ANSWER_TOKENS = 8


async def _stage(around: Surroundings) -> Numbers:
    """Ask all questions at once, and wait until everybody has a first token."""
    target, words = around.server.spec.target, around.calibration.words
    system = text(words(_SYSTEM_TOKENS), f"burst {around.seed}")
    answers = await together(
        send(
            target,
            [
                {"role": "system", "content": system},
                {"role": "user", "content": text(words(_QUESTION_TOKENS), f"{around.seed}/{i}")},
            ],
            _ANSWER_TOKENS,
        )
        for i in range(around.size)
    )
    start = min(answer.started for answer in answers)
    return {"until all have a first token s": max(a.stamps[0] for a in answers) - start}


BURST = Situation(
    "burst", "32 requests at once with one 1,000-token system prompt, fresh server", 32, _stage
)
