"""Answers that stream while a long prompt arrives."""

from __future__ import annotations

import asyncio

from bench.client import Answer
from bench.prompts import text
from bench.regimes.situation import Numbers, Situation, Surroundings, send, together
from bench.report import percentile

__all__ = ["ARRIVAL"]

_STREAMS = 8
_PROMPT_TOKENS = 2000
_ANSWER_TOKENS = 240
_FLOWING = 20


async def _stage(around: Surroundings) -> Numbers:
    """Let a long prompt arrive again and again while eight answers stream."""
    target, words = around.server.spec.target, around.calibration.words
    gaps: list[float] = []
    waits: list[float] = []
    for repeat in range(around.size):
        seed = f"arrival {around.seed}/{repeat}"
        streams = [
            asyncio.ensure_future(
                send(
                    target,
                    [{"role": "user", "content": text(words(40), f"{seed}/{i}")}],
                    _ANSWER_TOKENS,
                )
            )
            for i in range(_STREAMS)
        ]
        # Until all of them flow: as long as it takes to answer another one.
        await send(target, [{"role": "user", "content": f"Warm-up {seed}"}], _FLOWING)
        long = [{"role": "user", "content": text(words(_PROMPT_TOKENS), seed)}]
        newcomer = await send(target, long, 1)
        waits.append(1e3 * (newcomer.stamps[0] - newcomer.started))
        answers = await together(streams)
        gaps += _gaps(answers, newcomer.started, newcomer.stamps[0])
    return {
        "ITL p99 ms": percentile(gaps, 0.99),
        "ITL p50 ms": percentile(gaps, 0.5),
        "TTFT of the long prompt ms": percentile(waits, 0.5),
    }


def _gaps(answers: list[Answer], start: float, end: float) -> list[float]:
    """Milliseconds between tokens, of all gaps that touch a span of time."""
    return [
        1e3 * (after - before)
        for answer in answers
        for before, after in zip(answer.stamps, answer.stamps[1:], strict=False)
        if after > start and before < end
    ]


ARRIVAL = Situation(
    "arrival", "inter-token latency of 8 streams while a 2,000-token prompt arrives", 3, _stage
)
